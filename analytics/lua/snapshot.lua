--[[ Read what a partition's log and groups are, as of one moment.

KEYS  1 stream   2 head   3 producers
      4.. for each group: work, attempts, blocked, then its lines   (one slot)
ARGV  1 msgpack array: for each group { name, { conversation of each of its lines, ... } }
Returns  { 'taken', head or false, first entry id or false, producers as HGETALL,
           { for each group: { last delivered id or false, { consumer, ... },
               { { entry id, consumer, deliveries }, ... } pending, work and attempts as HGETALL,
               { conversation, score, ... } blocked, { { entry id, ... }, ... } lines in that order } } }
         { 'changed' }   there is another group, or another blocked conversation: ask with that one too

Read-only. A group that the stream does not have, though it is registered, has no last delivered id.
--]]
--!include stream_facts

local stream = KEYS[1]
local PAGE = 1000
local asked = cmsgpack.unpack(ARGV[1])
local head = redis.call('GET', KEYS[2])
local groups, place, known = {}, 4, {}
for _, each in ipairs(asked) do known[each[1]] = true end

local on_stream = {}
if redis.call('EXISTS', stream) == 1 then
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local facts = named_facts(flat)
    if not known[facts.name] then return { 'changed' } end
    on_stream[facts.name] = facts
  end
end

local function pending_of(name)
  local found, from = {}, '-'
  while from do
    local page = redis.call('XPENDING', stream, name, from, '+', PAGE)
    for _, entry in ipairs(page) do
      found[#found + 1] = { entry[1], entry[2], entry[4] }
    end
    from = #page == PAGE and '(' .. page[#page][1] or nil
  end
  return found
end

for _, each in ipairs(asked) do
  local name, conversations = each[1], each[2]
  local work, attempts, blocked = KEYS[place], KEYS[place + 1], KEYS[place + 2]
  local line_of = {}
  for i, conversation in ipairs(conversations) do
    line_of[conversation] = KEYS[place + 2 + i]
  end
  place = place + 3 + #conversations

  local waiting, lines = redis.call('ZRANGE', blocked, 0, -1, 'WITHSCORES'), {}
  for i = 1, #waiting, 2 do
    local line = line_of[waiting[i]]
    if not line then return { 'changed' } end
    lines[#lines + 1] = redis.call('LRANGE', line, 0, -1)
  end
  local position, consumers, pending = false, {}, {}
  if on_stream[name] then
    position = on_stream[name]['last-delivered-id']
    for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, name)) do
      consumers[#consumers + 1] = named_facts(flat).name
    end
    pending = pending_of(name)
  end
  groups[#groups + 1] = {
    position, consumers, pending,
    redis.call('HGETALL', work), redis.call('HGETALL', attempts), waiting, lines,
  }
end
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
return { 'taken', head, first and first[1] or false, redis.call('HGETALL', KEYS[3]), groups }
