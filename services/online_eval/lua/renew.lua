-- Renews the leases of problems of the open evaluation.
-- KEYS job, leases
-- ARGV job, seconds, problem...
-- Returns 1, or 0 if the job is closed
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
    return 0
end
local clock = redis.call('TIME')
local expiry = string.format('%.6f', clock[1] + clock[2] / 1e6 + tonumber(ARGV[2]))
for i = 3, #ARGV do
    redis.call('ZADD', KEYS[2], 'XX', expiry, ARGV[i])
end
return 1
