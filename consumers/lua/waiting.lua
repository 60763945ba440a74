--[[ Tell which conversations have a line, the one that is due first before the others.

KEYS  1 blocked
ARGV  1 place of the last one to tell, from 0; -1 for all
Returns  { ms of the server's clock, { conversation, ms of that clock at which it is due, ... } }
--]]

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
return { now_ms, redis.call('ZRANGE', KEYS[1], 0, ARGV[1], 'WITHSCORES') }
