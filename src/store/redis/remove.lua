redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
if KEYS[3] then redis.pcall('ZREM', KEYS[3], ARGV[2]) end
return now
