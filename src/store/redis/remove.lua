redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
return now
