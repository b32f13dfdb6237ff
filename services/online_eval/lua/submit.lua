-- Stores the result of a problem and ends its lease. Only the first result of a problem counts.
-- KEYS job, leases, results
-- ARGV job, problem, result
-- Returns 1, or 0 if the job is closed or the problem has a result
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
    return 0
end
redis.call('ZREM', KEYS[2], ARGV[2])
return redis.call('HSETNX', KEYS[3], ARGV[2], ARGV[3])
