#!lua flags=allow-oom
--[[ Begin a build beside the serving one, unless one is in the making.

KEYS  1 shelf
ARGV  1 projection   2 mark
Returns  the mark of the build in the making: the one given, or that of the one begun before.

A build that was made before, and is rolled back to, keeps its checkpoint.
--]]

local name, mark = ARGV[1], ARGV[2]
local building = redis.call('HGET', KEYS[1], name .. ':building')
if building then return building end
redis.call('HSET', KEYS[1], name .. ':building', mark)
redis.call('HSETNX', KEYS[1], name .. '@' .. mark, '0-0')
return mark
