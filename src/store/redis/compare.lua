-- Shared start of put.lua and remove.lua: compares, and hands back what is
-- there if it is something else. Nothing is decided here.
--
-- KEYS: the record, the index of its partition, and that of complete records, if there
-- is one.
-- ARGV[1]: the expected version, '' for none. ARGV[2]: its name in the index.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local old = redis.pcall('GET', KEYS[1])
-- No string: it has parts.
local parts = type(old) == 'table'
if parts then
  if not string.find(old.err, 'WRONGTYPE') then return old end
  old = redis.pcall('HGET', KEYS[1], 'h')
  if type(old) == 'table' then return old end
end
local status, version, created, steps, request
-- Set by labels.lua, where labels are indexed.
local index_labels
local differs = old or parts
if ARGV[1] ~= '' then
  local columns = '^2 (%u) (%d+) %-?%d+ (%d+)(q?) %d+ %d+\n(........)'
  if old then status, created, steps, request, version = string.match(old, columns) end
  differs = version ~= ARGV[1]
end
if differs then
  -- Deletes nothing, but is refused by a replica, whose record may be old.
  local refused = redis.pcall('ZREM', KEYS[2], '')
  if type(refused) == 'table' then return refused end
  return {now, parts and redis.call('HGETALL', KEYS[1]) or old}
end
