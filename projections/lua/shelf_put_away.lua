#!lua flags=allow-oom
--[[ Take a build off the shelf, if it is there in the role named.

KEYS  1 shelf
ARGV  1 projection   2 role   3 mark
Returns  1 if it was taken off, else 0.

Its checkpoint goes with it, unless the same build has another role as well.
--]]

local name, role, mark = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', KEYS[1], name .. ':' .. role) ~= mark then return 0 end
redis.call('HDEL', KEYS[1], name .. ':' .. role)
local left = redis.call('HMGET', KEYS[1], name .. ':serving', name .. ':previous', name .. ':building')
for _, found in ipairs(left) do
  if found == mark then return 1 end
end
redis.call('HDEL', KEYS[1], name .. '@' .. mark)
return 1
