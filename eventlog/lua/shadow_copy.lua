--[[ Copy a range of a partition's stream to its shadow, some entries with another event.

KEYS  1 lease   2 stream   3 shadow      (one slot)
ARGV  1 generation of the lease
      2 entry id after which the range begins: the last of the shadow, or 0-0 to begin a new shadow
      3 last entry id of the range
      4 msgpack array { entry id, event JSON, ... }: what stands in the shadow in place of the stream's
Returns  { 'copied', entries }; or, with nothing written:
         { 'fenced' }   the lease went to another owner
         { 'lost' }     the shadow does not end at ARGV[2]: begin anew

Ids stay as they are. What is given beyond the range counts for nothing.
--]]
--!include lease
--!include stream_facts

local stream, shadow, after = KEYS[2], KEYS[3], ARGV[2]
if not lease_is_held(KEYS[1], ARGV[1]) then
  return { 'fenced' }
end
local flat = cmsgpack.unpack(ARGV[4])
local instead = {}
for i = 1, #flat, 2 do
  instead[flat[i]] = flat[i + 1]
end
if after ~= '0-0' and last_id_of(shadow) ~= after then
  return { 'lost' }
end

if after == '0-0' then
  redis.call('UNLINK', shadow)
end
local entries = redis.call('XRANGE', stream, '(' .. after, ARGV[3])
for _, entry in ipairs(entries) do
  local raw = instead[entry[1]]
  if raw then
    redis.call('XADD', shadow, entry[1], 'e', raw)
  else
    redis.call('XADD', shadow, entry[1], unpack(entry[2]))
  end
end
return { 'copied', #entries }
