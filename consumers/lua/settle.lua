#!lua flags=allow-oom
--[[ Settle entries of one group and partition: all of it, or nothing.

KEYS  1 lease   2 work   3 attempts   4 blocked   5..11 as append.lua has them, the stream first
      12.. lines of conversations  (one slot)
ARGV  1 consumer of what is in hand   2 consumer of what waits in lines
      3 msgpack array:
        1 generation   of the lease, as acquired
        2 group
        3 number       of the settlement; grows from one to the next of an owner
        4 acks         entry ids that are done with
        5 records      { entry id, record as JSON, ... } to be kept
        6 forgotten    entry ids whose records go
        7 lines        { { place among the lines, from 0; conversation; entry ids that leave it;
                         entry ids that come before the others, in order; entry ids that come after
                         them; ms after which it is due, or false to leave that as it is }, ... }
        8 batch        events to append, as append.lua takes them; or false
        9 hand         what is delivered and not settled, to be told after a loss of the group

Returns, always an array whose first item says what happened:
  { 'settled' }                       also where this settlement was written before: its reply was lost,
                                      or it comes a second time, perhaps late
  { 'fenced' }                        the lease went to another owner; nothing written
  { 'group_gone' }                    the group does not exist; nothing written
  { 'conflict', actual version, entity }   an expected version does not hold; nothing written

Errors  HEADLOST  as in append.lua; nothing written

What a handler made and its acknowledgement are one step, because input, output and group share the
slot. When a line is due is by the server's clock, since owners' clocks may differ. A conversation is
blocked for as long as its line has entries; entries in a line stay pending, under a consumer of
their own, so that whoever takes over finds what was in hand and nothing else.
--]]
--!include lease
--!include entity
--!include append_batch

local lease, work, attempts, blocked, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local settlement = cmsgpack.unpack(ARGV[3])
local generation, group, number = settlement[1], settlement[2], settlement[3]
local acks, records, forgotten = settlement[4], settlement[5], settlement[6]
local lines, batch, hand = settlement[7], settlement[8], settlement[9]
local FIRST_LINE = 12
local AT_ONCE = 0
local CHUNK = 3000 -- even, since pairs stay together; unpack() puts values on a stack of 8,000

local function in_chunks(call, items)
  for from = 1, #items, CHUNK do
    call(unpack(items, from, math.min(from + CHUNK - 1, #items)))
  end
end

-- JUSTID, with which a claim is no delivery, comes last.
local function claim(consumer, ...)
  local command = { 'XCLAIM', stream, group, consumer, 0, ... }
  command[#command + 1] = 'JUSTID'
  redis.call(unpack(command))
end

-- 1. May it be written? --------------------------------------------------------------------------
if not lease_is_held(lease, generation) then
  return { 'fenced' }
end
local settled_generation, settled_number =
  string.match(redis.call('HGET', work, 'settled') or '', '^(%d+):(%d+)$')
if tonumber(settled_generation) == generation and number <= tonumber(settled_number) then
  return { 'settled' }
end
if redis.pcall('XPENDING', stream, group).err then
  return { 'group_gone' }
end
local plan
if batch then
  local keys = {}
  for i = 1, 7 do keys[i] = KEYS[4 + i] end
  local refusal
  plan, refusal = plan_append(keys, batch)
  if not plan then return refusal end
end

-- 2. Write it. Nothing below can fail but for lack of memory, which the server checks before. ----
if plan then
  write_append(plan)
end
in_chunks(function(...) redis.call('XACK', stream, group, ...) end, acks)
in_chunks(function(...) redis.call('HSET', attempts, ...) end, records)
in_chunks(function(...) redis.call('HDEL', attempts, ...) end, forgotten)
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
for _, change in ipairs(lines) do
  local line, conversation = KEYS[FIRST_LINE + change[1]], change[2]
  local popped, front, back, wait_ms = change[3], change[4], change[5], change[6]
  for _, id in ipairs(popped) do
    redis.call('LREM', line, 1, id) -- the first, hence found at once
  end
  for i = #front, 1, -1 do
    redis.call('LPUSH', line, front[i])
  end
  in_chunks(function(...) redis.call('RPUSH', line, ...) end, back)
  for _, ids in ipairs({ front, back }) do
    in_chunks(function(...) claim(ARGV[2], ...) end, ids)
  end
  if redis.call('EXISTS', line) == 0 then
    redis.call('ZREM', blocked, conversation)
  elseif wait_ms then
    local due_ms = wait_ms > 0 and now_ms + wait_ms or AT_ONCE
    redis.call('ZADD', blocked, string.format('%.0f', due_ms), conversation)
  else
    redis.call('ZADD', blocked, 'NX', AT_ONCE, conversation) -- a new line
  end
end
redis.call('HSET', work, 'settled', string.format('%.0f:%.0f', generation, number), 'hand', hand)
return { 'settled' }
