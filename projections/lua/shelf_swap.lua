--[[ Let a build that is in the making serve. What served is the previous one then.

KEYS  1 shelf
ARGV  1 projection   2 mark
Returns  1 if it serves now, 0 where that build is not in the making; nothing written then.

What was previous before is forgotten, unless it is the very build that serves now.
--]]

local name, mark = ARGV[1], ARGV[2]
local serving_field, previous_field, building_field =
  name .. ':serving', name .. ':previous', name .. ':building'
local found = redis.call('HMGET', KEYS[1], serving_field, previous_field, building_field)
local serving, previous, building = found[1], found[2], found[3]
if building ~= mark then return 0 end
redis.call('HDEL', KEYS[1], building_field)
redis.call('HSET', KEYS[1], serving_field, mark)
if previous and previous ~= mark then
  redis.call('HDEL', KEYS[1], name .. '@' .. previous)
end
if serving then
  redis.call('HSET', KEYS[1], previous_field, serving)
else
  redis.call('HDEL', KEYS[1], previous_field)
end
return 1
