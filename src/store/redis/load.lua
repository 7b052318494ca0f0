-- KEYS: the record, the index of its partition. Deletes nothing, but is refused
-- by a replica, whose record may be old.
local primary = redis.pcall('ZREM', KEYS[2], '')
if type(primary) == 'table' then return primary end
local time = redis.call('TIME')
local record = redis.pcall('GET', KEYS[1])
if type(record) == 'table' and string.find(record.err, 'WRONGTYPE') then record = redis.pcall('HGETALL', KEYS[1]) end
if type(record) == 'table' and record.err then return record end
return {time[1] * 1000 + math.floor(time[2] / 1000), record}
