#!lua flags=allow-oom
--[[ Take documents and feeds of one build out of Redis: all of them, or none.

KEYS  1 lease   2 shelf   3 documents   4 departures   5 counts of items dropped from feeds
      6.. indexes, facets, feeds      (one slot)
ARGV  1 msgpack array; a key is given as its place in KEYS:
        1 generation   of the lease, as acquired
        2 place        { model, field of its role on the shelf, mark it must hold }
        3 checkpoint   entry id that the model must stand at, as it did when these were read
        4 number       of this departure, above all before it
        5 documents    { document, ... }
        6 indexes      { { key, { document, ... }, key of the facet that counts it or false,
                           value counted, index }, ... }
        7 feeds        { place of the first feed's key, the others' following it; { feed, ... } }

Returns  1 if they left; 0 where lease, shelf or checkpoint are others, or a later departure was
         before this one: nothing written

They were written down outside before, under this number: whoever finds one neither here nor there has
a file that is older than this. A facet goes on counting what left, by index, among the departures.
--]]
--!include lease

local request = cmsgpack.unpack(ARGV[1])
local generation, place, checkpoint, number = request[1], request[2], request[3], request[4]
local documents, indexes, feeds = request[5], request[6], request[7]
local model, role, mark = place[1], place[2], place[3]
local CHUNK = 3000 -- unpack() puts its values on Lua's stack, which holds 8,000

if not lease_is_held(KEYS[1], generation)
    or redis.call('HGET', KEYS[2], role) ~= mark
    or (redis.call('HGET', KEYS[2], model) or '0-0') ~= checkpoint
    or tonumber(redis.call('HGET', KEYS[4], '') or 0) >= number then
  return 0
end

for from = 1, #documents, CHUNK do
  redis.call('HDEL', KEYS[3], unpack(documents, from, math.min(from + CHUNK - 1, #documents)))
end
for _, change in ipairs(indexes) do
  local members, gone = change[2], 0
  for from = 1, #members, CHUNK do
    local upto = math.min(from + CHUNK - 1, #members)
    gone = gone + redis.call('ZREM', KEYS[change[1]], unpack(members, from, upto))
  end
  if change[3] and gone > 0 then
    redis.call('HINCRBY', KEYS[4], change[5], gone)
  end
end
for i, feed in ipairs(feeds[2]) do
  redis.call('DEL', KEYS[feeds[1] + i - 1])
  redis.call('HDEL', KEYS[5], feed)
end
redis.call('HSET', KEYS[4], '', number)
return 1
