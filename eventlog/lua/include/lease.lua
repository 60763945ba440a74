-- Return whether the lease at `key` still has `generation`: the fence of whoever took it then.
-- Expiry is not asked: as long as nobody else took the lease, its last owner harms nobody.
local function lease_is_held(key, generation)
  return redis.call('HGET', key, 'generation') == tostring(generation)
end
