--[[ Set fields of a hash.

KEYS  1 hash
ARGV  1 msgpack array { field, value, ... }   2 ms at which the hash expires, or 0 for never
Returns  how many fields there are in the hash

One blob, because thousands of arguments take the client several times as long to write.
--]]

local CHUNK = 3000 -- even, since pairs stay together; unpack() puts values on a stack of 8,000
local flat = cmsgpack.unpack(ARGV[1])
for from = 1, #flat, CHUNK do
  redis.call('HSET', KEYS[1], unpack(flat, from, math.min(from + CHUNK - 1, #flat)))
end
if ARGV[2] ~= '0' then
  redis.call('PEXPIREAT', KEYS[1], ARGV[2])
end
return redis.call('HLEN', KEYS[1])
