#!lua flags=allow-oom
--[[ Give a lease back, so that another member need not wait for its expiry.

KEYS  1 lease
ARGV  1 generation
Returns  1 if it was ours, else 0.
--]]
--!include lease
if not lease_is_held(KEYS[1], ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'owner', '', 'expires_ms', 0)
return 1
