-- Leases problems of the open evaluation: expired leases first, then new problems. A run that is paused or stopping
-- leases none.
-- KEYS job, leases, desired state
-- ARGV loaded learner step, seconds, count
-- Returns {job, problems}, or {} without an evaluation for the loaded version
local job = redis.call('HMGET', KEYS[1], 'id', 'step', 'problems', 'next')
if not job[1] or tonumber(ARGV[1]) < tonumber(job[2]) or (redis.call('GET', KEYS[3]) or 'run') ~= 'run' then
    return {}
end
local clock, count = redis.call('TIME'), tonumber(ARGV[3])
local now = clock[1] + clock[2] / 1e6
local given = redis.call('ZRANGE', KEYS[2], '-inf', string.format('%.6f', now), 'BYSCORE', 'LIMIT', 0, count)
local next = tonumber(job[4])
while #given < count and next < tonumber(job[3]) do
    given[#given + 1] = next
    next = next + 1
end
redis.call('HSET', KEYS[1], 'next', next)
for _, problem in ipairs(given) do
    redis.call('ZADD', KEYS[2], string.format('%.6f', now + tonumber(ARGV[2])), problem)
end
return {job[1], given}
