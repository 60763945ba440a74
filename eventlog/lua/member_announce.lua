#!lua flags=allow-oom
--[[ Announce a member of a group, forget those whose time is over, and list who was heard of lately.

KEYS  1 members of the group
ARGV  1 member   2 ttl_ms   3 fresh_ms: whoever was announced within it counts as heard of
Returns  { now in ms since 1970, { member, ... } }
--]]

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl_ms = tonumber(ARGV[2])

local function text(ms)
  return string.format('%.0f', ms)
end

redis.call('ZADD', KEYS[1], text(now_ms + ttl_ms), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now_ms))
local stale_ms = now_ms + ttl_ms - tonumber(ARGV[3])
return { now_ms, redis.call('ZRANGE', KEYS[1], '(' .. text(stale_ms), '+inf', 'BYSCORE') }
