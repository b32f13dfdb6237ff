#!lua
-- Atomically adds a dead letter to the stream again, under the next attempt, and resolves it.
-- KEYS dead letters, outcomes, counters, audit, trajectories, seen attempts, lost
-- ARGV by, origin, letter, capacity, role or '' for a letter that the caller did not find, ordinal, attempt, producer id,
--      data
-- Returns {resolved, {letter, group id, outcome, became, reason, by, at}} | {full} | {unknown}
-- include: resolve_dead_letter
local letter = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
if not letter or ARGV[5] == '' then
    local found = earlier_outcome(ARGV[3])
    return found and {'resolved', found} or {'unknown'}
end
local role, again = ARGV[5], ARGV[6] .. ':' .. ARGV[7]
local produced, read = unpack(redis.call('HMGET', KEYS[3], 'produced', 'read'))
if tonumber(produced or '0') - tonumber(read or '0') >= tonumber(ARGV[4]) then
    return {'full'}
end
redis.call('XADD', KEYS[5], '*', 'group', role .. ':' .. again, 'producer', ARGV[8], 'data', ARGV[9])
redis.call('SADD', KEYS[6], again)
redis.call('SREM', KEYS[7], role .. ':' .. ARGV[6])
redis.call('HINCRBY', KEYS[3], 'produced', 1)
redis.call('HINCRBY', KEYS[3], 'produced_bytes', #ARGV[9])
return {'resolved', resolve(ARGV[3], letter[2][4], 'requeued', role .. ':' .. again, '')}
