-- Return what read_linked.lua, whose header explains keys and request, replies. Needs documents.lua,
-- entity.lua and place.lua before it.
local function read_linked(keys, request)
  local tail_limit, key, field, entity = request[3], request[4], request[5], request[6]
  local checkpoints = {}
  for i = 1, 2 do
    local model, marks = request[i][1], request[i][2]
    if not is_there(keys[1], marks) then
      return { 'moved', i }
    end
    checkpoints[i] = redis.call('HGET', keys[1], model) or '0-0'
  end

  local function sequence(entry_id)
    return tonumber(string.match(entry_id, '%d+$'))
  end
  local lower = checkpoints[1]
  if sequence(checkpoints[2]) < sequence(lower) then
    lower = checkpoints[2]
  end
  local head = redis.call('GET', keys[3]) or '0-0'
  local tail = {}
  if head ~= lower then
    tail = redis.call('XRANGE', keys[2], '(' .. lower, '+', 'COUNT', tail_limit)
  end

  local document = redis.call('HGET', keys[4], key)
  local target = document and cjson.decode(document)[field]
  local linked_keys = {}
  if type(target) == 'string' then
    linked_keys[1] = target
  end
  local _, mark = read_entity(keys[6], entity)
  local _, holder = holder_of(mark)
  if holder and holder ~= target then
    linked_keys[#linked_keys + 1] = holder
  end
  return {
    lower, head, tail, checkpoints[1], document, checkpoints[2], linked_keys,
    fetch_documents(keys[5], linked_keys),
  }
end
