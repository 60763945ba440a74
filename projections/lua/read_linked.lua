--[[ Read a document, those that it or the caller points to, and what the log has after them, in one step.

KEYS  1 shelf   2 stream   3 head   4 documents   5 documents pointed to
      6 departures   7 departures of those pointed to      (one slot)
ARGV  1 msgpack array:
        1 place        { model, field of its role on the shelf, mark it must hold }; the last two
                       false where no build is to be read: then nothing is stored
        2 linked       the place of the model that is pointed to
        3 tail_limit   entries after the lower checkpoint at most
        4 key          of the document
        5 field        of the document, which holds a key of the other model
        6 hints        keys of the other model to fetch in any case

Returns  { 'moved', 1 or 2 }  the shelf holds another mark in that place's role: look there again; or
         { lower checkpoint, head, { entry, ... }, checkpoint, JSON or nil, checkpoint of the linked,
           { linked key, ... }, { JSON or nil, ... }, number of departures, the same of the linked }

Read-only. Cost grows with what is returned.
--]]
--!include documents

local request = cmsgpack.unpack(ARGV[1])
local tail_limit, key, field, linked_keys = request[3], request[4], request[5], request[6]
local checkpoints = {}
for i = 1, 2 do
  local model, role, mark = request[i][1], request[i][2], request[i][3]
  if role and redis.call('HGET', KEYS[1], role) ~= mark then
    return { 'moved', i }
  end
  checkpoints[i] = redis.call('HGET', KEYS[1], model) or '0-0'
end

local function sequence(entry_id)
  return tonumber(string.match(entry_id, '%d+$'))
end
local lower = checkpoints[1]
if sequence(checkpoints[2]) < sequence(lower) then
  lower = checkpoints[2]
end
local head = redis.call('GET', KEYS[3]) or '0-0'
local tail = {}
if head ~= lower then
  tail = redis.call('XRANGE', KEYS[2], '(' .. lower, '+', 'COUNT', tail_limit)
end

local document = redis.call('HGET', KEYS[4], key)
local decoded = document and cjson.decode(document)
local target = type(decoded) == 'table' and decoded[field]
if type(target) == 'string' then
  linked_keys[#linked_keys + 1] = target
end
return {
  lower, head, tail, checkpoints[1], document, checkpoints[2], linked_keys,
  fetch_documents(KEYS[5], linked_keys),
  tonumber(redis.call('HGET', KEYS[6], '') or 0), tonumber(redis.call('HGET', KEYS[7], '') or 0),
}
