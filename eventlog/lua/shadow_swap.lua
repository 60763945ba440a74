--[[ Put the shadow in the stream's place, with all that the stream's groups know.

KEYS  1 lease   2 stream   3 shadow   4 count of rewrites      (one slot)
ARGV  1 generation of the lease
      2 last entry id of the shadow
      3 entries at most that the stream may have after it
Returns  { 'swapped', entries copied, groups, pending entries, pending entries that were dropped };
         or, with nothing written:
         { 'fenced' }   the lease went to another owner
         { 'lost' }     the shadow does not end at ARGV[2], or the stream is gone: begin anew
         { 'behind' }   the stream has more after it: copy that first

One step, so that no reader ever sees a stream without its groups. Of a pending entry its consumer, its
idle time and its deliveries stay. One whose entry was trimmed cannot be pending in the new stream: the
server refuses; it is dropped, and counted.
--]]
--!include lease
--!include stream_facts

local stream, shadow = KEYS[2], KEYS[3]
local PAGE = 1000

if not lease_is_held(KEYS[1], ARGV[1]) then
  return { 'fenced' }
end
if redis.call('EXISTS', stream) == 0 or last_id_of(shadow) ~= ARGV[2] then
  return { 'lost' }
end
local limit = tonumber(ARGV[3])
local tail = redis.call('XRANGE', stream, '(' .. ARGV[2], '+', 'COUNT', limit + 1)
if #tail > limit then
  return { 'behind' }
end

for _, entry in ipairs(tail) do
  redis.call('XADD', shadow, entry[1], unpack(entry[2]))
end
-- Trimmed meanwhile.
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
if first then
  redis.call('XTRIM', shadow, 'MINID', '=', first[1])
else
  redis.call('XTRIM', shadow, 'MAXLEN', '=', 0)
end
local facts = named_facts(redis.call('XINFO', 'STREAM', stream))
redis.call('XSETID', shadow, facts['last-generated-id'],
  'ENTRIESADDED', facts['entries-added'], 'MAXDELETEDID', facts['max-deleted-entry-id'])

local group_count, pending_count, dropped_count = 0, 0, 0
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group = named_facts(flat)
  group_count = group_count + 1
  redis.call('XGROUP', 'CREATE', shadow, group.name, group['last-delivered-id'],
    'ENTRIESREAD', group['entries-read'] or -1)
  for _, about in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group.name)) do
    redis.call('XGROUP', 'CREATECONSUMER', shadow, group.name, named_facts(about).name)
  end
  local from = '-'
  while from do
    local page = redis.call('XPENDING', stream, group.name, from, '+', PAGE)
    for _, entry in ipairs(page) do
      local claimed = redis.call('XCLAIM', shadow, group.name, entry[2], 0, entry[1],
        'IDLE', entry[3], 'RETRYCOUNT', entry[4], 'FORCE', 'JUSTID')
      pending_count = pending_count + #claimed
      dropped_count = dropped_count + 1 - #claimed
    end
    from = #page == PAGE and '(' .. page[#page][1] or nil
  end
end

redis.call('UNLINK', stream)
redis.call('RENAME', shadow, stream)
redis.call('INCR', KEYS[4])
return { 'swapped', #tail, group_count, pending_count, dropped_count }
