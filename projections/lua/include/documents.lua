-- Return the documents of a hash by their keys, in order; false where there is none.
local function fetch_documents(hash, documents)
  local CHUNK = 3000 -- unpack() puts its values on Lua's stack, which holds 8,000
  local found = {}
  for from = 1, #documents, CHUNK do
    local upto = math.min(from + CHUNK - 1, #documents)
    local values = redis.call('HMGET', hash, unpack(documents, from, upto))
    for i = 1, upto - from + 1 do
      found[from + i - 1] = values[i]
    end
  end
  return found
end
