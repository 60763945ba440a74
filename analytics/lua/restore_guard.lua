--[[ Put a restore's guard in place of a partition's head.

KEYS  1 head   2 stream   (one slot)
ARGV  1 guard   2 what begins every guard; or '' to guard the partition whatever it has, and empty it
Returns  1 if it is guarded now; 0 where the partition is whole, hence left alone
--]]

local head = redis.call('GET', KEYS[1])
if ARGV[2] ~= '' and string.sub(head or '', 1, #ARGV[2]) ~= ARGV[2] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1])
if ARGV[2] == '' then
  redis.call('UNLINK', KEYS[2])
end
return 1
