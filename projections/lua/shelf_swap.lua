#!lua flags=allow-oom
--[[ Let a build that is in the making serve. What served is the previous one then.

KEYS  1 shelf   2 stream   (one slot)
ARGV  1 projection   2 mark   3 group that stands where the serving builds are
Returns  1 if it serves now, 0 where that build is not in the making; nothing written then.

What was previous before is forgotten, unless it is the very build that serves now. The group moves
back where that build is behind; one that does not exist is left so.
--]]
--!include shelf

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
local shelf = read_shelf(KEYS[1])
move_group(KEYS[2], ARGV[3], lowest_checkpoint(shelf, shelf[name .. '@' .. mark] or '0-0'))
return 1
