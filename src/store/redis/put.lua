-- ARGV[3] status  [4] version  [5] milliseconds until it is due
-- [6] created: 'now', a time, or ''  [7] number of steps  [8] 'q' if there is a request, or ''
-- [9] attempts and length of the head  [10] the head (and the response)  [11...] fresh parts: field, value
local due = math.min(now + ARGV[5], 2 ^ 53)
if ARGV[6] == 'now' then created = now end
if not created then created = ARGV[6] ~= '' and ARGV[6] or now end
-- The index first: it is refused where memory is full or it is not ours, and
-- then nothing is written. But what was admitted may go on where memory is
-- full: after a write that needs none, the others of a script are let through.
if ARGV[3] == 'C' then
  redis.call('ZREM', KEYS[2], ARGV[2])
  if KEYS[3] then
    -- The index of complete records, if there is to be one. It is for people: what may be
    -- the matter with it stops no write. Each write lets a few entries go that have expired.
    redis.pcall('ZADD', KEYS[3], due, ARGV[2])
    local expired = redis.pcall('ZRANGE', KEYS[3], '-inf', now, 'BYSCORE', 'LIMIT', 0, 4)
    if expired[1] then redis.pcall('ZREM', KEYS[3], unpack(expired)) end
  end
else
  if old then redis.call('ZREM', KEYS[2], '') end
  redis.call('ZADD', KEYS[2], due, ARGV[2])
end
if index_labels then index_labels(due) end
-- Only a complete record is ever forgotten by age.
local dies = ARGV[3] == 'C' and due < 2 ^ 53 and string.format('%.0f', due)
local line = string.format('2 %s %.0f %.0f %s%s %s\n', ARGV[3], created, now - created, ARGV[7], ARGV[8], ARGV[9])
local columns = line .. ARGV[4]
if ARGV[7] == '0' and ARGV[8] == '' then
  if dies then
    redis.call('SET', KEYS[1], columns .. ARGV[10], 'PXAT', dies)
  else
    redis.call('SET', KEYS[1], columns .. ARGV[10])
  end
  return now
end
if not parts then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'h', columns .. ARGV[10])
for part = 11, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[part], ARGV[part + 1]) end
if parts then
  if request > ARGV[8] then redis.call('HDEL', KEYS[1], 'q') end
  for step = tonumber(ARGV[7]), steps - 1 do redis.call('HDEL', KEYS[1], string.format('%d', step)) end
  if status == 'C' then redis.call('PERSIST', KEYS[1]) end
end
if dies then redis.call('PEXPIREAT', KEYS[1], dies) end
return now
