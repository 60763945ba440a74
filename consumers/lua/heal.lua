#!lua flags=allow-oom
--[[ Make a group that was lost again, with all that was pending.

KEYS  1 lease   2 stream   3 work   4 blocked   5.. lines of the conversations of `blocked`  (one slot)
ARGV  1 generation of the lease   2 group   3 consumer of what is in hand   4 consumer of what waits
Returns  { 'healed', entries in hand, entries in lines }, { 'healed', 0, 0 } also where the group is
         there, or { 'fenced' } where the lease went to another owner: nothing written

One step, because a settlement between the group's making and that of its pending entries would
acknowledge what is then made pending again. What is in hand is what the last settlement said, and
what was delivered since.
--]]
--!include lease
--!include group_position

local stream, work, group = KEYS[2], KEYS[3], ARGV[2]
local PAGE = 1000

if not lease_is_held(KEYS[1], ARGV[1]) then
  return { 'fenced' }
end
if not redis.pcall('XPENDING', stream, group).err then
  return { 'healed', 0, 0 }
end

local function make_pending(consumer, ids)
  if #ids == 0 then return 0 end
  local command = { 'XCLAIM', stream, group, consumer, 0 }
  for _, id in ipairs(ids) do command[#command + 1] = id end
  command[#command + 1] = 'FORCE'
  command[#command + 1] = 'JUSTID'
  redis.call(unpack(command))
  return #ids
end

local delivered = redis.call('HGET', work, 'delivered') or '0-0'
local hand = redis.call('HGET', work, 'hand') or '0-0'
local seen, lowest, told = string.match(hand, '^(%S+) ?(%S*) ?(%S*)$')
local ranges = {}
for first, last in string.gmatch(told, '(%d+)-(%d+)') do
  ranges[#ranges + 1] = { tonumber(first), tonumber(last) }
end
local seen_n, place = sequence_of(seen), 1
local function is_in_hand(id)
  local n = sequence_of(id)
  if n > seen_n then return true end
  while ranges[place] and ranges[place][2] < n do place = place + 1 end
  return ranges[place] and ranges[place][1] <= n
end

redis.call('XGROUP', 'CREATE', stream, group, delivered, 'MKSTREAM', 'ENTRIESREAD', sequence_of(delivered))
local hand_count, waiting_count = 0, 0
local from = lowest ~= '' and lowest or '(' .. seen
while from do
  local page = redis.call('XRANGE', stream, from, delivered, 'COUNT', PAGE)
  local ids = {}
  for _, entry in ipairs(page) do
    if is_in_hand(entry[1]) then ids[#ids + 1] = entry[1] end
  end
  hand_count = hand_count + make_pending(ARGV[3], ids)
  from = #page == PAGE and '(' .. page[#page][1] or nil
end
for i = 5, #KEYS do
  for start = 0, redis.call('LLEN', KEYS[i]) - 1, PAGE do
    local ids = redis.call('LRANGE', KEYS[i], start, start + PAGE - 1)
    waiting_count = waiting_count + make_pending(ARGV[4], ids)
  end
end
return { 'healed', hand_count, waiting_count }
