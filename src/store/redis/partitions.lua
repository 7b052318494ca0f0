-- How many partitions the data has, as a text; '' if it does not say so.
-- KEYS: a partition's copy of it. ARGV: what to put there if there is none; '' to only look.
if ARGV[1] ~= '' then redis.call('SET', KEYS[1], ARGV[1], 'NX') end
return redis.call('GET', KEYS[1]) or ''
