--[[ Give a partition that was restored its head: from now on it is whole.

KEYS  1 head   2 stream   3 count of rewrites   4.. leases   (one slot)
ARGV  1 guard that must stand in place of the head
      2 the head: last entry id ever
      3 now in ms
Returns  1, or 0 where another restore took over: nothing written

The leases' generations become what no owner before can have had, so that who comes back from the time
before is fenced; whoever keeps entries in memory sees that the stream was rewritten.
--]]

local head, stream, last = KEYS[1], KEYS[2], ARGV[2]
if redis.call('GET', head) ~= ARGV[1] then
  return 0
end
for i = 4, #KEYS do
  local generation = math.max(tonumber(redis.call('HGET', KEYS[i], 'generation') or 0) + 1, ARGV[3])
  redis.call('HSET', KEYS[i], 'owner', '', 'generation', string.format('%.0f', generation), 'expires_ms', 0)
end
redis.call('SET', KEYS[3], ARGV[3])
if last == '0-0' then
  redis.call('DEL', head)
  return 1
end
if redis.call('EXISTS', stream) == 0 then
  redis.call('XGROUP', 'CREATE', stream, 'made', '0-0', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', stream, 'made')
end
redis.call('XSETID', stream, last, 'ENTRIESADDED', string.match(last, '-(%d+)$'), 'MAXDELETEDID', '0-0')
redis.call('SET', head, last)
return 1
