#!lua flags=allow-oom
--[[ Fix where the segment after a position ends, unless that was fixed before.

KEYS  1 plans of the partition
ARGV  1 sequence of the position   2 last sequence of the segment
Returns  the last sequence that is planned.
--]]

redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[1])
