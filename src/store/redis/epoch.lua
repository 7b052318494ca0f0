-- KEYS: the partition's epoch. ARGV: [1] an identity, for when there is none; '' to write nothing
-- [2] '' to only look, or what its mark becomes more than.
if ARGV[1] ~= '' then
  -- First a write that needs no memory: where it is full, this call has to work too.
  redis.call('HDEL', KEYS[1], '')
  redis.call('HSETNX', KEYS[1], 'id', ARGV[1])
end
local mark = tonumber(redis.call('HGET', KEYS[1], 'mark') or 0)
if ARGV[2] ~= '' then
  redis.call('HINCRBY', KEYS[1], 'mark', math.max(tonumber(ARGV[2]) - mark, 0) + 1)
end
return {redis.call('HGET', KEYS[1], 'id') or '', mark}
