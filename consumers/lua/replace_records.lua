--[[ Replace records of failed attempts, each only if it is still what it was.

KEYS  1 attempts      (one slot)
ARGV  entry id, record as it was, record instead, and so on
Returns  how many were replaced; a worker changed or settled the others meanwhile
--]]

local replaced = 0
for i = 1, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    replaced = replaced + 1
  end
end
return replaced
