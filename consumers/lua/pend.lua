--[[ Make delivered entries pending again, for a group that was lost.

KEYS  1 lease   2 stream  (one slot)
ARGV  1 generation of the lease   2 group   3 consumer   4.. entry ids, at most 1,000
Returns  { 'pending' }, or { 'fenced' } where the lease went to another owner: nothing written
--]]
--!include lease

if not lease_is_held(KEYS[1], ARGV[1]) then
  return { 'fenced' }
end
local command = { 'XCLAIM', KEYS[2], ARGV[2], ARGV[3], 0 }
for i = 4, #ARGV do command[#command + 1] = ARGV[i] end
command[#command + 1] = 'FORCE'
command[#command + 1] = 'JUSTID'
redis.call(unpack(command))
return { 'pending' }
