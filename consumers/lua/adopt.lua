#!lua flags=allow-oom
--[[ Move what is pending from one consumer to another; remove the first when it has nothing left.

KEYS  1 lease   2 stream   3 work  (one slot)
ARGV  1 generation of the lease   2 group   3 consumer that goes   4 consumer that takes over
      5 most entries, at most 1,000
Returns  { 'adopted', entries it has left }, or { 'fenced' } where the lease went to another owner:
         nothing written

The server drops what is pending when it deletes a consumer, hence both in one step. What the other
consumer had delivered to it counts as delivered from then on.
--]]
--!include lease
--!include group_position

local stream, group, from, to = KEYS[2], ARGV[2], ARGV[3], ARGV[4]
if not lease_is_held(KEYS[1], ARGV[1]) then
  return { 'fenced' }
end
local pending = redis.call('XPENDING', stream, group, '-', '+', ARGV[5], from)
if #pending > 0 then
  local command = { 'XCLAIM', stream, group, to, 0 }
  for _, entry in ipairs(pending) do command[#command + 1] = entry[1] end
  command[#command + 1] = 'JUSTID'
  redis.call(unpack(command))
end
local left = #redis.call('XPENDING', stream, group, '-', '+', 1, from)
if left == 0 then
  redis.call('XGROUP', 'DELCONSUMER', stream, group, from)
  local position = group_position(stream, group)
  local delivered = redis.call('HGET', KEYS[3], 'delivered') or '0-0'
  if sequence_of(position) > sequence_of(delivered) then
    redis.call('HSET', KEYS[3], 'delivered', position)
  end
end
return { 'adopted', left }
