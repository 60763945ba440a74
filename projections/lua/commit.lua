#!lua flags=allow-oom
--[[ Apply a folded batch to the read models of one partition: all of it, or nothing.

KEYS  1 lease   2 shelf   3 stream   4.. documents, indexes, facets, departures, feeds, counts of
      items dropped from feeds  (one slot)
ARGV  1 msgpack array; a key is given as its place in KEYS:
        1 generation   of the lease, as acquired
        2 group        that moves on as well; or false
        3 first        entry id of the batch's first entry
        4 last         entry id that is the checkpoint afterwards
        5 steps        { { field of its role on the shelf, mark it must hold, model, checkpoint the
                         model must have, key of departures, number of the last one }, ... }, at least one
        6 documents    { { key, { document, JSON, ... }, { deleted document, ... } }, ... }
        7 indexes      { { key, { score, document, ... }, { document that is in it no more, ... },
                         key of the facet that counts it or false, value counted,
                         key of departures, index, how many of the documents are back that left
                         Redis from this index }, ... }, the last three where a facet counts it
        8 feeds        { { key of the first, the others' following it; length of what a key has before
                         the feed's name; items kept at least; items dropped at once; key of
                         dropped counts; { item or { item, ... }, ... }, one for each feed;
                         { n-th of these feeds, items it had when it left Redis, ... } }, ... },
                       an item being its text, or its place in the batch, from 1: then the stream
                       has every entry from `first` to `last`

Returns, always an array whose first item says what happened:
  { 'committed' }
  { 'already_applied' }             every model is at `last` or beyond; nothing written
  { 'fenced' }                      the lease went to another owner; nothing written
  { 'superseded', model }           the shelf holds another mark in the model's role, or documents left
                                    it since they were looked at; nothing written
  { 'gap', model, checkpoint }      the model is neither there nor beyond; nothing written
  { 'entries_gone' }                the stream lacks entries of the batch; nothing written
  { 'group_gone' }                  the group does not exist; nothing written

Errors  BADBATCH  the argument does not have the shape above; nothing written

A checkpoint moves only together with the state it speaks for, hence each entry is folded once. The
group goes as far as every serving build has come, be it in this batch or not.
--]]
--!include lease
--!include shelf

local lease, shelf_key, stream = KEYS[1], KEYS[2], KEYS[3]
local batch = cmsgpack.unpack(ARGV[1])
local generation, group, first, last = batch[1], batch[2], batch[3], batch[4]
local steps, documents, indexes, feeds = batch[5], batch[6], batch[7], batch[8]

local CHUNK = 3000 -- even, since pairs stay together; unpack() puts values on a stack of 8,000

local function in_chunks(call, items)
  if #items > 0 and #items <= CHUNK then
    return call(unpack(items))
  end
  for from = 1, #items, CHUNK do
    call(unpack(items, from, math.min(from + CHUNK - 1, #items)))
  end
end

-- 1. May it be applied? --------------------------------------------------------------------------
local function is_pairs(list)
  return type(list) == 'table' and #list % 2 == 0
end

local function is_well_formed()
  if type(steps) ~= 'table' or #steps == 0 or not sequence(first) or not sequence(last) then
    return false
  end
  for _, step in ipairs(steps) do
    if #step ~= 6 or not KEYS[step[5]] then return false end
  end
  for _, part in ipairs({ documents, indexes, feeds }) do
    for _, change in ipairs(part) do
      if not KEYS[change[1]] then return false end
    end
  end
  for _, change in ipairs(documents) do
    if not is_pairs(change[2]) or type(change[3]) ~= 'table' then return false end
  end
  for _, change in ipairs(indexes) do
    if not is_pairs(change[2]) or type(change[3]) ~= 'table' then return false end
    if change[4] and not (KEYS[change[4]] and KEYS[change[6]]) then return false end
    for i = 1, #change[2], 2 do
      if type(change[2][i]) ~= 'number' then return false end
    end
  end
  for _, change in ipairs(feeds) do
    for i = 2, 4 do
      if type(change[i]) ~= 'number' then return false end
    end
    if not KEYS[change[5]] or type(change[6]) ~= 'table' or #change[6] == 0
        or not KEYS[change[1] + #change[6] - 1] or not is_pairs(change[7]) then
      return false
    end
  end
  return true
end

if not is_well_formed() then
  return redis.error_reply('BADBATCH the batch is malformed')
end
if not lease_is_held(lease, generation) then
  return { 'fenced' }
end

local shelf = read_shelf(shelf_key)
local applied = 0
local misplaced
for _, step in ipairs(steps) do
  local role, mark, model, checkpoint = step[1], step[2], step[3], step[4]
  local departures = tonumber(redis.call('HGET', KEYS[step[5]], '') or 0)
  if shelf[role] ~= mark or departures ~= step[6] then
    return { 'superseded', model }
  end
  local stored = shelf[model] or '0-0'
  if stored ~= checkpoint then
    if sequence(stored) >= sequence(last) then
      applied = applied + 1
    end
    misplaced = misplaced or { 'gap', model, stored }
  end
end

if applied == #steps then
  return { 'already_applied' }
elseif misplaced then
  return misplaced
end

-- Replace places by what the stream has there; return what is wrong, if anything is.
local entries
local function resolve(items)
  for i = 1, #items do
    local item = items[i]
    if type(item) == 'number' then
      if not entries then
        entries = redis.call('XRANGE', stream, first, last)
        if #entries ~= sequence(last) - sequence(first) + 1 then return { 'entries_gone' } end
      end
      local entry = entries[item]
      if not entry then return redis.error_reply('BADBATCH no such entry in the batch') end
      items[i] = entry[1] .. ' ' .. entry[2][2]
    elseif type(item) == 'table' then
      local wrong = resolve(item)
      if wrong then return wrong end
    end
  end
end

for _, change in ipairs(feeds) do
  local wrong = resolve(change[6])
  if wrong then return wrong end
end

if group then
  for _, step in ipairs(steps) do
    shelf[step[3]] = last
  end
  if move_group(stream, group, lowest_checkpoint(shelf, last)).err then return { 'group_gone' } end
end

-- 2. Write it. Nothing below can fail but for lack of memory, which the server checks before. ----
for _, change in ipairs(documents) do
  local key = KEYS[change[1]]
  in_chunks(function(...) redis.call('HSET', key, ...) end, change[2])
  in_chunks(function(...) redis.call('HDEL', key, ...) end, change[3])
end
for _, change in ipairs(indexes) do
  local key = KEYS[change[1]]
  in_chunks(function(...) redis.call('ZREM', key, ...) end, change[3])
  in_chunks(function(...) redis.call('ZADD', key, ...) end, change[2])
  if change[4] then -- a facet counts its index and what left that, so they cannot differ
    if change[8] > 0 then redis.call('HINCRBY', KEYS[change[6]], change[7], -change[8]) end
    local count = redis.call('ZCARD', key) + (redis.call('HGET', KEYS[change[6]], change[7]) or 0)
    if count > 0 then
      redis.call('ZADD', KEYS[change[4]], count, change[5])
    else
      redis.call('ZREM', KEYS[change[4]], change[5])
    end
  end
end
for _, change in ipairs(feeds) do
  local place, prefix, limit, at_once, dropped =
    change[1], change[2], change[3], change[4], KEYS[change[5]]
  for i = 1, #change[7], 2 do -- one that is here is younger than what is known of its departure
    local key = KEYS[place + change[7][i] - 1]
    if redis.call('EXISTS', key) == 0 then
      redis.call('HSET', dropped, string.sub(key, prefix + 1), change[7][i + 1])
    end
  end
  for i, items in ipairs(change[6]) do
    local key, length = KEYS[place + i - 1], nil
    if type(items) == 'string' then
      length = redis.call('RPUSH', key, items)
    elseif #items <= CHUNK then
      length = redis.call('RPUSH', key, unpack(items))
    else
      in_chunks(function(...) length = redis.call('RPUSH', key, ...) end, items)
    end
    if length == (type(items) == 'string' and 1 or #items) then
      redis.call('HSETNX', dropped, string.sub(key, prefix + 1), 0) -- which also lists all feeds
    end
    -- What is kept depends on how many items there ever were, not on how they came in batches.
    local excess = math.floor((length - limit) / at_once) * at_once
    if excess > 0 then
      redis.call('LTRIM', key, excess, -1)
      redis.call('HINCRBY', dropped, string.sub(key, prefix + 1), excess)
    end
  end
end
for _, step in ipairs(steps) do
  redis.call('HSET', shelf_key, step[3], last)
end
return { 'committed' }
