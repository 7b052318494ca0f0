-- One partition's share of a page, read along its index.
--
-- KEYS: the index. ARGV: [1] what its names become keys with  [2] how many
-- [3] '1' for those that are due by now  [4], [5] due and name of the last one before, or ''
-- [6] 'REV' for complete records, latest due first, or ''
local backwards = ARGV[6] == 'REV'
local function range(from, to)
  if backwards then return redis.call('ZRANGE', KEYS[1], from, to, 'REV', 'WITHSCORES') end
  return redis.call('ZRANGE', KEYS[1], from, to, 'WITHSCORES')
end
-- What is of another type is another matter than a refusal, as of a user that lacks a right.
local function read(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or string.find(reply.err, 'WRONGTYPE') then return reply end
  return redis.call(...)
end
-- Its start is enough: a complete one has its response behind it.
local function head(key)
  if not backwards then return read('GET', key) end
  local start = read('GETRANGE', key, 0, 255)
  return start ~= '' and start
end
redis.call('ZREM', KEYS[1], '')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local latest = ARGV[3] == '1' and now or 2 ^ 53
local limit, rank = tonumber(ARGV[2]), 0
if ARGV[4] ~= '' then
  -- Those that fall due together lie in the order of their names: halve.
  local earlier, same = {'-inf', '(' .. ARGV[4]}, {'-inf', ARGV[4]}
  if backwards then earlier, same = {'(' .. ARGV[4], '+inf'}, {ARGV[4], '+inf'} end
  rank = redis.call('ZCOUNT', KEYS[1], unpack(earlier))
  local last = redis.call('ZCOUNT', KEYS[1], unpack(same))
  while rank < last do
    local middle = math.floor((rank + last) / 2)
    local name = range(middle, middle)[1]
    local is_behind = name > ARGV[5]
    if backwards then is_behind = name < ARGV[5] end
    if is_behind then last = middle else rank = middle + 1 end
  end
end
-- Names that are none of ours have no place that a page could end at.
local found, strange = {}, 0
local function reply()
  found[#found + 1] = strange
  return found
end
while #found < 3 * limit do
  local page = range(rank, rank + limit - 1)
  if #page == 0 then return reply() end
  for at = 1, #page, 2 do
    local name, due = page[at], math.max(math.ceil(tonumber(page[at + 1])), 0)
    if due > latest or #found >= 3 * limit then return reply() end
    -- From here on all have expired: writes remove them, a few at a time.
    if backwards and due <= now then return reply() end
    local record = head(ARGV[1] .. name)
    if type(record) == 'table' then record = read('HGET', ARGV[1] .. name, 'h') end
    -- Another process, without this index, began another operation in its place.
    if backwards and type(record) == 'string' and string.find(record, '^2 [NP] ') then record = false end
    -- Or completed it, and left it in the index of a label.
    if not backwards and type(record) == 'string' and string.find(record, '^2 C ') then record = false end
    if record then rank = rank + 1 else redis.call('ZREM', KEYS[1], name) end
    if record and (#name ~= 43 or not string.find(name, '^[%w./]*[.26AEIMQUYcgkosw]$')) then
      strange = strange + 1
    elseif record then
      found[#found + 1] = name
      found[#found + 1] = string.format('%.0f', due)
      -- What is not ours may be long, or of another type.
      found[#found + 1] = type(record) == 'string' and string.match(string.sub(record, 1, 256), '^[^\n]*\n........') or ''
    end
  end
end
return reply()
