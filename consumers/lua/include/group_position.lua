-- Return the sequence of an entry id.
local function sequence_of(id)
  return tonumber(string.match(id, '-(%d+)$'))
end

-- Return the entry id that was last delivered to whatever consumer of the group.
local function group_position(stream, group)
  for _, about in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local fields = {}
    for i = 1, #about, 2 do fields[about[i]] = about[i + 1] end
    if fields.name == group then return fields['last-delivered-id'] end
  end
  return '0-0'
end
