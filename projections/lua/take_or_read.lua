--[[ Append a batch if it may be, else read a document and those it points to, in one step.

KEYS  1..6 as read_linked.lua   7..13 as append.lua 1..7      (one slot)
ARGV  1 msgpack array: the request of read_linked.lua
      2 msgpack array: the batch of append.lua, with expected versions and without a fence

Returns  as append.lua where the batch was appended: { 'appended', ... }
         as read_linked.lua where an expected version did not hold

Errors  as append.lua

It is safe to send again: whoever took the entity finds that it is held.
--]]
--!include documents
--!include entity
--!include place
--!include linked
--!include append_batch

local append_keys = {}
for i = 7, #KEYS do
  append_keys[i - 6] = KEYS[i]
end
local plan, refusal = plan_append(append_keys, cmsgpack.unpack(ARGV[2]))
if plan then
  return write_append(plan)
end
if refusal.err then
  return refusal
end
return read_linked(KEYS, cmsgpack.unpack(ARGV[1]))
