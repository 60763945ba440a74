--[[ Read a page of a feed, its checkpoint, and what the log has after it, in one step.

KEYS  1 shelf   2 stream   3 head   4 feed   5 counts of items dropped      (one slot)
ARGV  1 msgpack array:
        1 place        { model, { field, mark, ... } that the shelf must hold, false for none }
        2 tail_limit   entries after the checkpoint at most; 0: none
        3 feed         its name
        4 before       number of the item that the page ends before; 0: the page ends at the end
        5 limit        items at most

Returns  { 'moved' }  the shelf holds other marks: look there again; or
         { checkpoint, head, { entry, ... }, items ever, number of the oldest item kept,
           number of the first item of the page, { item, ... } }
         items are numbered from 1 as they joined, so a number stays when older ones are dropped

Read-only. Cost grows with what is returned and with the page's distance from the feed's end.
--]]
--!include place

local request = cmsgpack.unpack(ARGV[1])
local place, tail_limit, feed, before, limit =
  request[1], request[2], request[3], request[4], request[5]
local model = place[1]

if not is_there(KEYS[1], place[2]) then
  return { 'moved' }
end
local checkpoint = redis.call('HGET', KEYS[1], model) or '0-0'
local head = redis.call('GET', KEYS[3]) or '0-0'
local tail = {}
if tail_limit > 0 and head ~= checkpoint then
  tail = redis.call('XRANGE', KEYS[2], '(' .. checkpoint, '+', 'COUNT', tail_limit)
end

local dropped = tonumber(redis.call('HGET', KEYS[5], feed) or 0)
local total = dropped + redis.call('LLEN', KEYS[4])
local upto = total
if before > 0 then
  upto = math.min(before - 1, total)
end
local from = math.max(upto - limit, dropped) + 1
local items = {}
if from <= upto then
  items = redis.call('LRANGE', KEYS[4], from - dropped - 1, upto - dropped - 1)
end
return { checkpoint, head, tail, total, dropped + 1, from, items }
