#!lua flags=allow-oom
--[[ Take or renew the lease of a group on a partition.

KEYS  1 lease
ARGV  1 owner   2 ttl_ms
Returns  the generation held by the owner, or 0 where another owner's lease has not expired.

The generation grows whenever the lease changes hands, so whoever holds an older one is fenced. It
is never reset: a released lease keeps its generation. An owner that comes late to its own lapsed
lease keeps it, since nobody was in between; owners' names are therefore unique per process.
--]]

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HMGET', KEYS[1], 'owner', 'generation', 'expires_ms')
local owner, generation = held[1], tonumber(held[2] or 0)
if owner ~= ARGV[1] then
  if owner and owner ~= '' and tonumber(held[3]) > now_ms then
    return 0
  end
  generation = generation + 1
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'generation', generation,
  'expires_ms', string.format('%.0f', now_ms + ARGV[2]))
return generation
