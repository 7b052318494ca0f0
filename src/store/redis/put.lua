-- ARGV[2] milliseconds until it is due  [3] status  [4] the number of its steps, 'q' if there
-- is a request, attempts, length of the head; its version, the head (and the response)
-- [5...] fresh parts: field, value  [last, if that makes them odd] when it was created, or 'now';
-- without it, as before, or now
local due = math.min(now + ARGV[2], 2 ^ 53)
if #ARGV % 2 == 1 then created = table.remove(ARGV) end
if not created or created == 'now' then created = string.format('%.0f', now) end
-- The index first: it is refused where memory is full or it is not ours, and
-- then nothing is written. But what was admitted may go on where memory is
-- full: after a write that needs none, the others of a script are let through.
if ARGV[3] == 'C' then
  redis.call('ZREM', KEYS[2], name)
  if KEYS[3] then
    -- The index of complete records, if there is to be one. It is for people: what may be
    -- the matter with it stops no write. Each write lets a few entries go that have expired.
    redis.pcall('ZADD', KEYS[3], due, name)
    local expired = redis.pcall('ZRANGE', KEYS[3], '-inf', now, 'BYSCORE', 'LIMIT', 0, 4)
    if expired[1] then redis.pcall('ZREM', KEYS[3], unpack(expired)) end
  end
else
  if old then redis.call('ZREM', KEYS[2], '') end
  redis.call('ZADD', KEYS[2], due, name)
end
if index_labels then index_labels(due) end
-- Only a complete record is ever forgotten by age.
local dies = ARGV[3] == 'C' and due < 2 ^ 53 and string.format('%.0f', due)
local record = string.format('2 %s %s %.0f ', ARGV[3], created, now - created) .. ARGV[4]
if string.sub(ARGV[4], 1, 2) == '0 ' then
  if dies then
    redis.call('SET', KEYS[1], record, 'PXAT', dies)
  else
    redis.call('SET', KEYS[1], record)
  end
  return now
end
if not parts then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'h', record)
for part = 5, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[part], ARGV[part + 1]) end
if parts then
  local status, steps, request = string.match(old, '^2 (%u) %d+ %-?%d+ (%d+)(q?)')
  local left, asked = string.match(ARGV[4], '^(%d+)(q?)')
  if request > asked then redis.call('HDEL', KEYS[1], 'q') end
  for step = tonumber(left), steps - 1 do redis.call('HDEL', KEYS[1], string.format('%d', step)) end
  if status == 'C' then redis.call('PERSIST', KEYS[1]) end
end
if dies then redis.call('PEXPIREAT', KEYS[1], dies) end
return now
