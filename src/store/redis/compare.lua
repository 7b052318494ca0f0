-- Shared start of put.lua and remove.lua: compares, and hands back what is
-- there if it is something else. Nothing is decided here.
--
-- KEYS: the record, the index of its partition.
-- ARGV[1]: the expected version, '' for none. ARGV[2]: its name in the index.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local old = redis.pcall('HGET', KEYS[1], 'h')
if type(old) == 'table' then return old end
local status, version, created, steps
if old then status, version, created, steps = string.match(old, '^1 (%u) (%x+) (%d+) %d+ (%d+) %d+\n') end
local foreign = not version and redis.call('EXISTS', KEYS[1]) == 1
if foreign or (version or '') ~= ARGV[1] then
  -- Deletes nothing, but is refused by a replica, whose record may be old.
  redis.call('HDEL', KEYS[1], '')
  return {now, redis.call('HGETALL', KEYS[1])}
end
