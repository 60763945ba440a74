--[[ Add the next entries to a partition that is being restored, with the ids they had.

KEYS  1 head   2 stream   (one slot)
ARGV  1 guard that must stand in place of the head
      2 entry id after which they come: the stream's last, or 0-0 where it has none
      3 msgpack array { entry id, event JSON, ... }
Returns  { 'added' }; or, with nothing written:
         { 'fenced' }             another restore took over
         { 'elsewhere', last id } the stream ends elsewhere
--]]
--!include stream_facts

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return { 'fenced' }
end
local last = last_id_of(KEYS[2])
if last ~= ARGV[2] then
  return { 'elsewhere', last }
end
local flat = cmsgpack.unpack(ARGV[3])
for i = 1, #flat, 2 do
  redis.call('XADD', KEYS[2], flat[i], 'e', flat[i + 1])
end
return { 'added' }
