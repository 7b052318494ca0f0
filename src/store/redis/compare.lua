-- Shared start of put.lua and remove.lua: compares, and hands back what is
-- there if it is something else. Nothing is decided here.
--
-- KEYS: the record, the index of its partition.
-- ARGV[1]: the expected version, '' for none. ARGV[2]: its name in the index.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found, old, status, version, created, steps, request
local differs
if ARGV[1] == '' then
  found = redis.pcall('HGETALL', KEYS[1])
  if found.err then return found end
  differs = #found > 0
else
  old = redis.pcall('HGET', KEYS[1], 'h')
  if type(old) == 'table' then return old end
  if old then status, version, created, steps, request = string.match(old, '^1 (%u) (%x+) (%d+) %d+ (%d+)(q?) %d+\n') end
  differs = version ~= ARGV[1]
end
if differs then
  -- Deletes nothing, but is refused by a replica, whose record may be old, and
  -- where this is no hash.
  local refused = redis.pcall('HDEL', KEYS[1], '')
  if type(refused) == 'table' then return refused end
  return {now, found or redis.call('HGETALL', KEYS[1])}
end
