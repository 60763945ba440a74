-- Appending in two steps, because a script checks all its input before its first write:
-- plan_append(keys, batch) returns what is to be written, or nil and why not; write_append(plan)
-- writes it. `keys` and `batch` are KEYS and the array of append.lua, whose header explains them.
-- Needs entity.lua before it.
local APPEND_CHUNK = 3000 -- unpack() puts its values on Lua's stack, which holds 8,000

-- Return the ms and sequence of the last entry ever; nil and an error's code where they are not to be
-- had: the head is gone, or the partition is being restored.
local function read_head(stream, head_key)
  local head = redis.call('GET', head_key)
  if head then
    local head_ms, head_n = string.match(head, '^(%d+)-(%d+)$')
    if not head_ms then return nil, 'RESTORING' end
    return tonumber(head_ms), tonumber(head_n)
  end
  if redis.call('EXISTS', stream) == 1 then
    -- A group's MKSTREAM makes an empty stream whose last id is 0-0; a trimmed one keeps its own.
    local about = redis.call('XINFO', 'STREAM', stream)
    for i = 1, #about, 2 do
      if about[i] == 'last-generated-id' and about[i + 1] ~= '0-0' then
        return nil, 'HEADLOST'
      end
    end
  end
  return 0, 0
end

-- Return whether nobody holds an entity, as far as this partition knows.
local function is_free(versions, version, mark)
  if version == 0 or mark == 'free' then return true end
  local kind, name = holder_of(mark)
  if not kind then return false end
  local _, holder_mark = read_entity(versions, kind .. ':' .. name)
  return holder_mark == 'over'
end

local function plan_append(keys, batch)
  local events, ids, window_ms, entities = batch[1], batch[2], batch[3], batch[4]
  local expected, producer, fence = batch[5], batch[6], batch[7]
  local total = #events
  local time = redis.call('TIME')
  local ms = time[1] * 1000 + math.floor(time[2] / 1000)
  local last_ms, last_n = read_head(keys[1], keys[2])
  if not last_ms then
    return nil, redis.error_reply(last_n .. ' ' .. keys[2])
  end
  ms = math.max(ms, last_ms) -- the clock may step back, entry ids never do

  local last_position = 0
  local skipped = {} -- index → original entry id
  local duplicates = {}
  local function skip(index, original)
    skipped[index] = original
    duplicates[#duplicates + 1] = index
    duplicates[#duplicates + 1] = original
  end

  if producer then
    local name, token, previous, positions = producer[1], producer[2], producer[3], producer[4]
    local stored = redis.call('HGET', keys[7], name)
    if stored then
      local position, stored_token, stored_ms, stored_n, stored_count =
        string.match(stored, '^(%d+) (%S+) (%d+) (%d+) (%d+)$')
      last_position = tonumber(position)
      if stored_token == token then -- our own batch again: its reply was lost
        return nil, { 'appended', tonumber(stored_ms), tonumber(stored_n), tonumber(stored_count), {}, {} }
      end
    end
    if last_position < previous then
      return nil, { 'gap', last_position }
    end
    for i = 1, total do
      if positions[i] > last_position then break end -- positions only grow
      skip(i, '')
    end
  end

  local bucket, dedup_key
  if ids then
    bucket = math.floor(ms / window_ms)
    dedup_key = keys[3 + bucket % 3]
    for _, key in ipairs({ dedup_key, keys[3 + (bucket - 1) % 3] }) do
      if redis.call('EXISTS', key) == 1 then
        for from = 1, total, APPEND_CHUNK do
          local upto = math.min(from + APPEND_CHUNK - 1, total)
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
  if fence and new_count > 0 then
    if redis.call('HGET', keys[8], 'generation') ~= string.format('%.0f', fence) then
      return nil, { 'lock_lost' }
    end
  end
  if expected and new_count > 0 then
    for i = 1, #expected, 2 do
      local actual, mark = read_entity(keys[6], expected[i])
      local wanted = expected[i + 1]
      if wanted ~= actual and not (wanted == 'free' and is_free(keys[6], actual, mark)) then
        return nil, { 'conflict', actual, expected[i] }
      end
    end
  end
  return {
    keys = keys, batch = batch, ms = ms, last_n = last_n, new_count = new_count,
    skipped = skipped, duplicates = duplicates, dedup_key = dedup_key,
    last_position = last_position, expires_ms = bucket and (bucket + 2) * window_ms,
  }
end

-- Nothing here can fail but for lack of memory, which the server checks before.
local function write_append(plan)
  local keys, ms, skipped, dedup_key = plan.keys, plan.ms, plan.skipped, plan.dedup_key
  local events, ids, entities, producer = plan.batch[1], plan.batch[2], plan.batch[4], plan.batch[6]
  local stream, first_n, n = keys[1], plan.last_n + 1, plan.last_n
  local prefix = string.format('%.0f-', ms)
  local remembered = {}
  for i = 1, #events do
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

  if plan.new_count > 0 then
    redis.call('SET', keys[2], prefix .. n)
    for from = 1, #remembered, 2 * APPEND_CHUNK do
      local upto = math.min(from + 2 * APPEND_CHUNK - 1, #remembered)
      redis.call('HSET', dedup_key, unpack(remembered, from, upto))
    end
    -- Later than it was if the window was widened.
    if ids and redis.call('PEXPIRETIME', dedup_key) < plan.expires_ms then
      redis.call('PEXPIREAT', dedup_key, string.format('%.0f', plan.expires_ms))
    end
  end

  local versions = {}
  for i = 1, #entities, 3 do
    local index, entity, new_mark = entities[i], entities[i + 1], entities[i + 2]
    local version, mark = read_entity(keys[6], entity)
    if not skipped[index] then
      version = version + 1
      if new_mark ~= '' and mark ~= 'over' then mark = new_mark end
      local value = string.format('%.0f', version)
      redis.call('HSET', keys[6], entity, mark == '' and value or value .. ' ' .. mark)
    end
    versions[#versions + 1] = index
    versions[#versions + 1] = version
  end

  -- Also where each event was there by its id: a later attempt, when ids are forgotten, must know.
  if producer and producer[4][#events] > plan.last_position then
    redis.call('HSET', keys[7], producer[1], string.format(
      '%.0f %s %.0f %.0f %.0f', producer[4][#events], producer[2], ms, first_n, plan.new_count))
  end
  return { 'appended', ms, first_n, plan.new_count, plan.duplicates, versions }
end
