-- How many entries an index has. KEYS: the index. ARGV: which: 'due' for those that are
-- due by now, 'kept' for those that are not, or 'all'.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local earliest, latest = '-inf', '+inf'
if ARGV[1] == 'due' then latest = now end
if ARGV[1] == 'kept' then earliest = '(' .. now end
return redis.call('ZCOUNT', KEYS[1], earliest, latest)
