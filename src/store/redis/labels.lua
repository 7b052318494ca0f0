-- Between compare.lua and what writes, where labels are indexed.
--
-- The last two of ARGV: [n - 1] how the names of the partition start  [n] the tags of the
-- record's labels, each with a comma behind it.
--
-- The hash has the tags of unfinished records: what ends, or is removed, has to be taken out.
-- The index is for people: what may be the matter with it stops no write.
local tags = table.remove(ARGV)
local stem = table.remove(ARGV)
-- As the record falls due then, or is gone.
index_labels = function(due)
  local hash = stem .. 'labels'
  local before = (old or parts) and redis.pcall('HGET', hash, name)
  if type(before) ~= 'string' then before = '' end
  local is_unfinished = due and ARGV[3] ~= 'C'
  for tag in string.gmatch(before, '[^,]+') do
    if not is_unfinished or not string.find(tags, tag .. ',', 1, true) then
      redis.pcall('ZREM', stem .. 'due:' .. tag, name)
    end
  end
  local is_kept = is_unfinished and tags ~= ''
  if is_kept and tags ~= before then redis.pcall('HSET', hash, name, tags) end
  if not is_kept and before ~= '' then redis.pcall('HDEL', hash, name) end
  if not due then return end
  for tag in string.gmatch(tags, '[^,]+') do
    if is_unfinished then
      redis.pcall('ZADD', stem .. 'due:' .. tag, due, name)
    else
      local index = stem .. 'complete:' .. tag
      redis.pcall('ZADD', index, due, name)
      local expired = redis.pcall('ZRANGE', index, '-inf', now, 'BYSCORE', 'LIMIT', 0, 4)
      if expired[1] then redis.pcall('ZREM', index, unpack(expired)) end
      -- Most labels have few records, and may never be written again: the whole goes with the last.
      local last = redis.pcall('ZRANGE', index, -1, -1, 'WITHSCORES')
      local latest = tonumber(last[2] or '')
      if latest and latest < 2 ^ 53 then
        redis.pcall('PEXPIREAT', index, string.format('%.0f', latest))
      else
        redis.pcall('PERSIST', index)
      end
    end
  end
end
