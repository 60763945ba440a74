--[[ Fetch documents of several builds of one partition.

KEYS  1.. documents of a build   (one slot)
ARGV  1 msgpack array: for each of KEYS, the document keys wanted { key, ... }
Returns  for each of KEYS { JSON or nil, ... }

Read-only. One call where a pipeline of HMGET would take the client several times as long.
--]]
--!include documents

local wanted = cmsgpack.unpack(ARGV[1])
local found = {}
for i, documents in ipairs(wanted) do
  found[i] = fetch_documents(KEYS[i], documents)
end
return found
