#!lua flags=allow-oom
--[[ Let builds serve from the start of the log, on a shelf that has nothing yet.

KEYS  1 shelf
ARGV  projection, mark, projection, mark, ...
Returns  1 if they serve now, 0 where the shelf was not empty; nothing written then.
--]]

if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
for i = 1, #ARGV, 2 do
  local name, mark = ARGV[i], ARGV[i + 1]
  redis.call('HSET', KEYS[1], name .. ':serving', mark, name .. '@' .. mark, '0-0')
end
return 1
