--[[ Trim a partition's stream up to where somebody still needs it, a slice at a time.

KEYS  1 stream   2 shelf   3 lease of whoever rewrites the stream      (one slot)
ARGV  1 lowest sequence that is to stay, were it for retention alone
      2 archive position: entry id of the last entry that segments hold, 0-0 where they hold none
      3 most entries to trim; 0 only asks
      4.. groups that must have read an entry before it goes: the archiver's and those registered
Returns  { entries trimmed, id of the first entry there is now, id of the last, pins },
         ids are '' where the stream is empty or missing; pins are { kind, name, entry id, ... }, what
         each needs begins with that entry id:
           'group'        a consumer group's oldest pending entry, else the next to be delivered
           'lost_group'   a group named in ARGV that the server does not have here: all there is
           'build'        a read model's build, `name@version.made role`: what follows its checkpoint
           'unprojected'  there is no read model yet, live reads begin with the first entry
           'archive'      what follows the archive position
           'foreign'      the archive does not belong to this stream: all there is
           'eraser'       the stream is being rewritten: all there is

Who may need what is looked up in the step that trims, since all of it shares the slot. Two things
come from outside. The archive position only grows, so an old one trims less; that it speaks of this
very stream is checked by its entry id, which has the time of appending: a server that was flushed, or
put back to an older state, has another entry there or none. The registered groups may change after
they were read: one that came has its group on the stream before it is registered, one that went is
waited for until the next call.

The pending list of a consumer group and its position are both asked: a trim at the position alone
takes what was delivered and not acknowledged. Trimmed is by length, since sequences have no holes; a
hole made by somebody's XDEL makes it trim less. Cost grows with the entries trimmed and the number of
groups and builds, not with the stream.
--]]
--!include stream_facts

local stream, shelf, eraser = KEYS[1], KEYS[2], KEYS[3]
local wanted_n, archived, most = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local function sequence_of(id)
  return tonumber(string.match(id, '%-(%d+)$'))
end

-- Return an id that is above this one and not above the next there may be.
local function just_after(id)
  local ms, n = string.match(id, '^(%d+)%-(%d+)$')
  return ms .. '-' .. string.format('%.0f', n + 1)
end

local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
if not first then
  return { 0, '', '', {} }
end
local first_id, last_id = first[1], last_id_of(stream)
local first_n, last_n = sequence_of(first_id), sequence_of(last_id)

-- 1. Who needs what? -----------------------------------------------------------------------------
local pins, keep_n = {}, math.min(wanted_n, last_n + 1)
local function pin(kind, name, id)
  pins[#pins + 1] = kind
  pins[#pins + 1] = name
  pins[#pins + 1] = id
  keep_n = math.min(keep_n, sequence_of(id))
end

local held = redis.call('HMGET', eraser, 'owner', 'expires_ms')
if held[1] and held[1] ~= '' then
  local time = redis.call('TIME')
  if tonumber(held[2]) > time[1] * 1000 + math.floor(time[2] / 1000) then
    pin('eraser', held[1], first_id)
  end
end

local archived_n = sequence_of(archived)
pin('archive', '', just_after(archived))
if archived_n > last_n
    or (archived_n >= first_n and not redis.call('XRANGE', stream, archived, archived)[1]) then
  pin('foreign', archived, first_id)
end

local is_there = {}
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group = named_facts(flat)
  is_there[group.name] = true
  local needed = just_after(group['last-delivered-id'])
  if group.pending > 0 then
    local oldest = redis.call('XPENDING', stream, group.name)[2]
    if sequence_of(oldest) < sequence_of(needed) then needed = oldest end
  end
  pin('group', group.name, needed)
end
for i = 4, #ARGV do
  if not is_there[ARGV[i]] then pin('lost_group', ARGV[i], first_id) end
end

local fields, is_projected = redis.call('HGETALL', shelf), false
local on_shelf = named_facts(fields)
for i = 1, #fields, 2 do
  local name, role = string.match(fields[i], '^(.*):(%a+)$')
  if role == 'serving' or role == 'previous' or role == 'building' then
    local model = name .. '@' .. fields[i + 1]
    is_projected = true
    pin('build', model .. ' ' .. role, just_after(on_shelf[model] or '0-0'))
  end
end
if not is_projected then
  pin('unprojected', '', first_id)
end

-- 2. Trim. ---------------------------------------------------------------------------------------
local trimmed = 0
keep_n = math.min(keep_n, first_n + most)
if keep_n > first_n then
  trimmed = redis.call('XTRIM', stream, 'MAXLEN', '=', string.format('%.0f', last_n - keep_n + 1))
  first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
end
return { trimmed, first and first[1] or '', first and last_id or '', pins }
