redis.call('ZREM', KEYS[2], name)
redis.call('DEL', KEYS[1])
if KEYS[3] then redis.pcall('ZREM', KEYS[3], name) end
if index_labels then index_labels() end
return now
