--[[ Append a batch to one partition: all of it, or nothing.

KEYS  1 stream   2 head   3..5 dedup buckets   6 versions   7 producers
      8 lock, where there is a fence      (one slot)
ARGV  1 msgpack array:
        1 events      JSON texts, in order, at least one
        2 ids         event ids, distinct, one per event; or false: not checked by id
        3 window_ms   how long an id is remembered at least
        4 entities    { index of event, entity, mark, ... } for events that advance a version; the
                      mark says what the entity is from then on, '' what it was:
                      'held ENTITY', 'free', or 'over', which stays
        5 expected    { entity, version, ... } that must hold, or 'free' for the version: it has none,
                      is free, or its holder is over; or false
        6 producer    { name, token, previous position, { position per event } }; or false
        7 fence       generation that the lock must still have; or false

Returns, always an array whose first item says what happened:
  { 'appended', ms, first n, count, { index, original entry id, ... }, { index, version, ... } }
      New entries have ids ms-(first n), ms-(first n + 1), ... in the order of the events that are
      not listed as duplicates. An original entry id is '' where a producer's position was passed.
  { 'conflict', actual version, entity }   an expected version does not hold; nothing written
  { 'lock_lost' }                     the lock has another generation; nothing written
  { 'gap', last position }            the producer's previous batch is missing; nothing written

Errors  HEADLOST  the head key is gone while the stream has or had entries; nothing written
        RESTORING  the partition is being restored; nothing written

Sequences are the second half of the entry id, so that they cost no field and a trimmed stream
still knows its next one (docs/adr/0001). The server's clock alone decides which bucket an id falls
into; bucket b is needed until the end of b + 1 and expires there, before slot b % 3 comes round.
--]]

--!include entity
--!include append_batch

local plan, refusal = plan_append(KEYS, cmsgpack.unpack(ARGV[1]))
if not plan then
  return refusal
end
return write_append(plan)
