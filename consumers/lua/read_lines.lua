--[[ Read the first entries of lines.

KEYS  1 stream   2 attempts   3.. lines  (one slot)
ARGV  1 most entries of each
Returns  for each line { { entry id, event JSON or false, record or false }, ... }; an event is
         missing where its entry was trimmed.
--]]

local stream, attempts = KEYS[1], KEYS[2]
local found = {}
for i = 3, #KEYS do
  local items = {}
  for _, id in ipairs(redis.call('LRANGE', KEYS[i], 0, ARGV[1] - 1)) do
    local entry = redis.call('XRANGE', stream, id, id)[1]
    items[#items + 1] = { id, entry and entry[2][2] or false, redis.call('HGET', attempts, id) }
  end
  found[#found + 1] = items
end
return found
