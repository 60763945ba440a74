-- Return an entity's version, 0 where nothing was said of it, and its mark, '' where it has none.
local function read_entity(versions, entity)
  local value = redis.call('HGET', versions, entity) or '0'
  local version, mark = string.match(value, '^(%d+) ?(.*)$')
  return tonumber(version), mark
end

-- Return the kind and the name of the entity that holds one with this mark; nil where none does.
local function holder_of(mark)
  return string.match(mark, '^held (%a+):(.*)$')
end
