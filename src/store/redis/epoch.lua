-- KEYS: the partition's epoch. ARGV: an identity, for when there is none.
-- First a write that needs no memory: where it is full, this is to be answered too.
redis.call('HDEL', KEYS[1], '')
redis.call('HSETNX', KEYS[1], 'id', ARGV[1])
return {redis.call('HGET', KEYS[1], 'id'), redis.call('HINCRBY', KEYS[1], 'mark', 1)}
