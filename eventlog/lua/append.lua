--[[ Append a batch to one partition: all of it, or nothing.

KEYS  1 stream   2 head   3..5 dedup buckets   6 versions   7 producers      (one slot)
ARGV  1 msgpack array:
        1 events      JSON texts, in order, at least one
        2 ids         event ids, distinct, one per event; or false: not checked by id
        3 window_ms   how long an id is remembered at least
        4 entities    { index of event, entity, ... } for events that advance a version
        5 expected    { entity, version } that must hold; or false
        6 producer    { name, token, previous position, { position per event } }; or false

Returns, always an array whose first item says what happened:
  { 'appended', ms, first n, count, { index, original entry id, ... }, { index, version, ... } }
      New entries have ids ms-(first n), ms-(first n + 1), ... in the order of the events that are
      not listed as duplicates. An original entry id is '' where a producer's position was passed.
  { 'conflict', actual version }      the expected version does not hold; nothing written
  { 'gap', last position }            the producer's previous batch is missing; nothing written

Errors  HEADLOST  the head key is gone while the stream has or had entries; nothing written

Sequences are the second half of the entry id, so that they cost no field and a trimmed stream
still knows its next one (docs/adr/0001). The server's clock alone decides which bucket an id falls
into; bucket b is needed until the end of b + 1 and expires there, before slot b % 3 comes round.
--]]

local stream, head_key = KEYS[1], KEYS[2]
local versions_key, producers_key = KEYS[6], KEYS[7]
local batch = cmsgpack.unpack(ARGV[1])
local events, ids, window_ms, entities = batch[1], batch[2], batch[3], batch[4]
local expected, producer = batch[5], batch[6]
local total = #events

local CHUNK = 3000 -- unpack() puts its values on Lua's stack, which holds 8,000

local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
local last_n = 0
local head = redis.call('GET', head_key)
if head then
  local head_ms, head_n = string.match(head, '^(%d+)-(%d+)$')
  ms = math.max(ms, tonumber(head_ms)) -- the clock may step back, entry ids never do
  last_n = tonumber(head_n)
elseif redis.call('EXISTS', stream) == 1 then
  -- A group's MKSTREAM makes an empty stream whose last id is 0-0; a trimmed one keeps its own.
  local about = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' and about[i + 1] ~= '0-0' then
      return redis.error_reply('HEADLOST ' .. head_key)
    end
  end
end

-- 1. What is new? --------------------------------------------------------------------------------
local skipped = {} -- index → original entry id
local duplicates = {}
local function skip(index, original)
  skipped[index] = original
  duplicates[#duplicates + 1] = index
  duplicates[#duplicates + 1] = original
end

if producer then
  local name, token, previous, positions = producer[1], producer[2], producer[3], producer[4]
  local last = 0
  local stored = redis.call('HGET', producers_key, name)
  if stored then
    local position, stored_token, stored_ms, stored_n, stored_count =
      string.match(stored, '^(%d+) (%S+) (%d+) (%d+) (%d+)$')
    last = tonumber(position)
    if stored_token == token then -- our own batch again: its reply was lost
      return { 'appended', tonumber(stored_ms), tonumber(stored_n), tonumber(stored_count), {}, {} }
    end
  end
  if last < previous then
    return { 'gap', last }
  end
  for i = 1, total do
    if positions[i] > last then break end -- positions only grow
    skip(i, '')
  end
end

local bucket, dedup_key
if ids then
  bucket = math.floor(ms / window_ms)
  dedup_key = KEYS[3 + bucket % 3]
  for _, key in ipairs({ dedup_key, KEYS[3 + (bucket - 1) % 3] }) do
    if redis.call('EXISTS', key) == 1 then
      for from = 1, total, CHUNK do
        local upto = math.min(from + CHUNK - 1, total)
        local found = redis.call('HMGET', key, unpack(ids, from, upto))
        for i = 1, upto - from + 1 do
          local index = from + i - 1
          if found[i] and not skipped[index] then skip(index, found[i]) end
        end
      end
    end
  end
end

local new_count = total - #duplicates / 2
local versions = {}
if expected and new_count > 0 then
  local actual = tonumber(redis.call('HGET', versions_key, expected[1]) or 0)
  if actual ~= expected[2] then
    return { 'conflict', actual }
  end
end

-- 2. Write it. Nothing below can fail but for lack of memory, which the server checks before. ----
local first_n = last_n + 1
local n = last_n
local prefix = string.format('%.0f-', ms)
local remembered = {}
for i = 1, total do
  if not skipped[i] then
    n = n + 1
    local entry_id = prefix .. n
    redis.call('XADD', stream, entry_id, 'e', events[i])
    if ids then
      remembered[#remembered + 1] = ids[i]
      remembered[#remembered + 1] = entry_id
    end
  end
end

if new_count > 0 then
  redis.call('SET', head_key, prefix .. n)
  for from = 1, #remembered, 2 * CHUNK do
    redis.call('HSET', dedup_key, unpack(remembered, from, math.min(from + 2 * CHUNK - 1, #remembered)))
  end
  if ids then
    local expires_ms = (bucket + 2) * window_ms -- later than it was if the window was widened
    if redis.call('PEXPIRETIME', dedup_key) < expires_ms then
      redis.call('PEXPIREAT', dedup_key, string.format('%.0f', expires_ms))
    end
  end
end

for i = 1, #entities, 2 do
  local index, entity = entities[i], entities[i + 1]
  local version
  if skipped[index] then
    version = tonumber(redis.call('HGET', versions_key, entity) or 0)
  else
    version = redis.call('HINCRBY', versions_key, entity, 1)
  end
  versions[#versions + 1] = index
  versions[#versions + 1] = version
end

if producer and new_count > 0 then
  redis.call('HSET', producers_key, producer[1], string.format(
    '%.0f %s %.0f %.0f %.0f', producer[4][total], producer[2], ms, first_n, new_count))
end

return { 'appended', ms, first_n, new_count, duplicates, versions }
