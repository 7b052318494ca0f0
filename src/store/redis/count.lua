-- How many entries an index has. KEYS: the index. ARGV: '1' for those that are due by now.
local latest = '+inf'
if ARGV[1] == '1' then
  local time = redis.call('TIME')
  latest = time[1] * 1000 + math.floor(time[2] / 1000)
end
return redis.call('ZCOUNT', KEYS[1], '-inf', latest)
