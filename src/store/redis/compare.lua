-- Shared start of put.lua and remove.lua: compares, and hands back what is
-- there if it is something else. Nothing is decided here.
--
-- KEYS: the record, the index of its partition, and that of complete records, if there
-- is one. ARGV[1]: the expected version, '' for none.
--
-- Few arguments, and few strings: each costs a tenth of what an empty script does, and a
-- server hashes each string that a script sees, all of its bytes.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
now = now - now % 1
local old = redis.pcall('GET', KEYS[1])
-- No string: it has parts.
local parts = type(old) == 'table'
if parts then
  if not string.find(old.err, 'WRONGTYPE') then return old end
  old = redis.pcall('HGET', KEYS[1], 'h')
  if type(old) == 'table' then return old end
end
local version, created
-- Set by labels.lua, where labels are indexed.
local index_labels
local differs = old or parts
if ARGV[1] ~= '' then
  if old then created, version = string.match(old, '^2 %u (%d+) %-?%d+ %d+q? %d+ %d+\n(........)') end
  differs = version ~= ARGV[1]
end
if differs then
  -- Deletes nothing, but is refused by a replica, whose record may be old.
  local refused = redis.pcall('ZREM', KEYS[2], '')
  if type(refused) == 'table' then return refused end
  return {now, parts and redis.call('HGETALL', KEYS[1]) or old}
end
-- Its name in the indexes.
local name = string.sub(KEYS[1], -43)
