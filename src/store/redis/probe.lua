-- Runs every command of the other scripts once, on keys of its own: a user
-- that lacks a right gets the error before anything is half written. Returns what partitions.lua does.
-- KEYS: a string and then a hash, a sorted set, how many partitions the data has. ARGV[1]: '1' if complete records or labels are indexed.
local commands = {
  -- First, for it needs no memory, and what a refused command left is no more.
  {'DEL', KEYS[1], KEYS[2]}, {'HDEL', KEYS[1], ''}, {'ZREM', KEYS[2], ''}, {'TIME'},
  {'SET', KEYS[1], '1', 'PXAT', 9007199254740991}, {'GET', KEYS[1]}, {'DEL', KEYS[1]},
  {'ZADD', KEYS[2], 1, 'a'}, {'ZCOUNT', KEYS[2], '-inf', '+inf'}, {'ZRANGE', KEYS[2], 0, 0, 'WITHSCORES'},
  {'HSET', KEYS[1], 'h', '1'}, {'HSETNX', KEYS[1], 'h', '1'}, {'HINCRBY', KEYS[1], 'h', 1},
  {'HGET', KEYS[1], 'h'}, {'HGETALL', KEYS[1]},
  {'PEXPIREAT', KEYS[1], 9007199254740991}, {'PERSIST', KEYS[1]}, {'DEL', KEYS[1], KEYS[2]},
}
if ARGV[1] == '1' then commands[#commands + 1] = {'GETRANGE', KEYS[1], 0, 0} end
for _, command in ipairs(commands) do
  local reply = redis.pcall(unpack(command))
  -- Not every server says which command it refuses.
  if type(reply) == 'table' and reply.err then
    return redis.error_reply(reply.err .. " (the '" .. string.lower(command[1]) .. "' command)")
  end
end
return redis.call('GET', KEYS[3]) or ''
