#!lua flags=allow-oom
--[[ Create a consumer group, unless the stream has it.

KEYS  1 stream
ARGV  1 group   2 entry id after which it begins   3 the sequence of that
Returns  1 if it was created, 0 where it was there.
--]]

local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'MKSTREAM', 'ENTRIESREAD', ARGV[3])
if made.err then
  if string.find(made.err, 'BUSYGROUP', 1, true) then return 0 end
  return made
end
return 1
