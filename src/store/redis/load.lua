-- KEYS: the record. Deletes nothing, but is refused by a replica, whose
-- record may be old.
local primary = redis.pcall('HDEL', KEYS[1], '')
if type(primary) == 'table' then return primary end
local time = redis.call('TIME')
return {time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGETALL', KEYS[1])}
