--[[ Let a group begin in a partition; one that has begun stays as it is.

KEYS  1 stream   2 head   3 work  (one slot)
ARGV  1 group   2 'beginning': with the first entry there is; 'now': with what is appended from now on
Returns  how many entries there were before the first one and are gone, 0 for 'now' and for a group that
         had begun before

One step, so that nothing is trimmed between the look at the first entry and the group that keeps it.
What was delivered is noted before anything is, since a group that the server loses is made again there.
--]]
--!include group_position

local stream, work, group = KEYS[1], KEYS[3], ARGV[1]
local head = redis.call('GET', KEYS[2]) or '0-0'
local position, missing = head, 0
if ARGV[2] == 'beginning' then
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  missing = sequence_of(head)
  if first then
    local ms, n = string.match(first[1], '^(%d+)%-(%d+)$')
    position, missing = ms .. '-' .. string.format('%.0f', n - 1), n - 1
  end
  if missing == 0 then position = '0-0' end
end
if redis.call('HSETNX', work, 'delivered', position) == 0 then
  position, missing = redis.call('HGET', work, 'delivered'), 0
end
redis.call('HSETNX', work, 'hand', position) -- nothing is in hand up to there
redis.pcall('XGROUP', 'CREATE', stream, group, position, 'MKSTREAM', 'ENTRIESREAD', sequence_of(position))
return missing
