-- Return the facts that XINFO tells of a stream or of one of its groups, as a table by name.
local function named_facts(flat)
  local facts = {}
  for i = 1, #flat, 2 do
    facts[flat[i]] = flat[i + 1]
  end
  return facts
end

-- Return the id of a stream's last entry, 0-0 where it has none.
local function last_id_of(stream)
  local entry = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  return entry and entry[1] or '0-0'
end
