#!lua
-- Adds one group to the stream: dedupe, capacity and XADD in one indivisible act. Its lease, whoever holds it, ends.
-- KEYS trajectories, seen bitmap, seen attempts, leases, lease owners, cursor, counters, lost
-- ARGV role, ordinal, attempt, producer id, capacity, data
-- Returns added | duplicate | full | unleased
local role, ordinal, attempt = ARGV[1], ARGV[2], ARGV[3]
local produced, read = unpack(redis.call('HMGET', KEYS[7], 'produced', 'read'))
if tonumber(ordinal) >= tonumber(redis.call('GET', KEYS[6]) or '0') then
    return 'unleased'
end
local first = tonumber(attempt) == 0
local again = ordinal .. ':' .. attempt
local seen = first and redis.call('GETBIT', KEYS[2], ordinal) or redis.call('SISMEMBER', KEYS[3], again)
if seen == 1 then
    redis.call('HINCRBY', KEYS[7], 'duplicates', 1)
    return 'duplicate'
end
if tonumber(produced or '0') - tonumber(read or '0') >= tonumber(ARGV[5]) then
    redis.call('HINCRBY', KEYS[7], 'refused_full', 1)
    return 'full'
end
redis.call('XADD', KEYS[1], '*', 'group', role .. ':' .. again, 'producer', ARGV[4], 'data', ARGV[6])
if first then
    redis.call('SETBIT', KEYS[2], ordinal, 1)
    redis.call('ZREM', KEYS[4], ordinal)
    redis.call('HDEL', KEYS[5], ordinal)
else
    redis.call('SADD', KEYS[3], again)
    redis.call('SREM', KEYS[8], role .. ':' .. ordinal)
end
redis.call('HINCRBY', KEYS[7], 'produced', 1)
redis.call('HINCRBY', KEYS[7], 'produced_bytes', #ARGV[6])
return 'added'
