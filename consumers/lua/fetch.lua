#!lua flags=allow-oom
--[[ Deliver entries to the owner of a partition.

KEYS  1 lease   2 stream   3 work  (one slot)
ARGV  1 generation of the lease   2 group   3 consumer   4 most entries
      5 entry id up to which the owner has seen what was delivered
Returns, always an array whose first item says what happened:
  { 'entries', entry id up to which they reach, entries as XRANGE has them }
  { 'fenced' }                 the lease went to another owner; nothing delivered
  { 'group_gone' }             the group does not exist
  { 'foreign' }                somebody else reads as the group: entries were delivered to another name;
                               they count as delivered, and are to be taken over
  { 'went_back', entry id }    less was delivered than the owner has seen: the server lost it
  { 'gap', sequence }          entries before that sequence are gone that were never delivered; nothing is

A script, because a plain XREADGROUP of an owner that has lost its lease unknowingly would put entries
where the new owner does not look. Entries whose reply was lost are delivered again, before new ones.
--]]
--!include lease
--!include group_position

local lease, stream, work = KEYS[1], KEYS[2], KEYS[3]
local generation, group, consumer, limit, seen = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if not lease_is_held(lease, generation) then
  return { 'fenced' }
end
local delivered = redis.call('HGET', work, 'delivered') or '0-0'
local seen_n, delivered_n = sequence_of(seen), sequence_of(delivered)
if delivered_n < seen_n then
  return { 'went_back', delivered }
end

local from = delivered_n > seen_n and seen or '>'
if from == '>' then
  local following = redis.call('XRANGE', stream, '(' .. delivered, '+', 'COUNT', 1)[1]
  if following and sequence_of(following[1]) > delivered_n + 1 then
    return { 'gap', sequence_of(following[1]) }
  end
end
local reply = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', limit, 'STREAMS', stream, from)
if reply and reply.err then
  return { 'group_gone' }
end
local entries = reply and reply[1][2] or {}
if #entries > 0 then
  local last = entries[#entries][1]
  if from == '>' then
    redis.call('HSET', work, 'delivered', last)
  end
  return { 'entries', last, entries }
end
local position = group_position(stream, group)
if from == '>' and sequence_of(position) > delivered_n then
  redis.call('HSET', work, 'delivered', position)
  return { 'foreign' }
end
return { 'entries', delivered, {} }
