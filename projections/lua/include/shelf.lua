-- Return the sequence of an entry id `ms-n`, nil for anything else.
local function sequence(entry_id)
  return tonumber(string.match(entry_id, '^%d+%-(%d+)$'))
end

-- Return a shelf as a table, field → value.
local function read_shelf(key)
  local shelf = {}
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    shelf[fields[i]] = fields[i + 1]
  end
  return shelf
end

-- Return the lowest checkpoint of the builds that serve, or `highest` where none is lower: how far
-- the group may stand, which has no pending entries and tells whoever trims what is done with.
local function lowest_checkpoint(shelf, highest)
  local lowest = highest
  for field, mark in pairs(shelf) do
    local name = string.match(field, '^(.*):serving$')
    local checkpoint = name and (shelf[name .. '@' .. mark] or '0-0')
    if checkpoint and sequence(checkpoint) < sequence(lowest) then
      lowest = checkpoint
    end
  end
  return lowest
end

-- Return the reply of moving a group to an entry; { err = … } where it does not exist.
local function move_group(stream, group, to)
  return redis.pcall('XGROUP', 'SETID', stream, group, to, 'ENTRIESREAD', sequence(to))
end
