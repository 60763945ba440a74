--[[ Take or renew a lock.

KEYS  1 lock
ARGV  1 owner   2 ttl_ms   3 kept_ms: how long it is remembered after it lapsed
Returns  the generation held by the owner, or 0 where another owner's hold has not expired.

There may be as many locks as there are chats, so one that nobody uses is forgotten. Its generation
grows nevertheless: it is the ms at which the lock changed hands, or one more than the last.
--]]

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HMGET', KEYS[1], 'owner', 'generation', 'expires_ms')
local owner, generation = held[1], tonumber(held[2] or 0)
if owner ~= ARGV[1] then
  if owner and owner ~= '' and tonumber(held[3]) > now_ms then
    return 0
  end
  generation = math.max(generation + 1, now_ms)
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'generation', string.format('%.0f', generation),
  'expires_ms', string.format('%.0f', now_ms + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[2] + ARGV[3]))
return generation
