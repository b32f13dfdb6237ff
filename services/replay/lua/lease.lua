#!lua flags=allow-oom
-- Leases groups to a producer: first those whose lease expired, lowest ordinal first, then new ones from the cursor.
-- A run that is paused or stopping leases none.
-- KEYS cursor, leases, lease owners, actuators, counters, desired state
-- ARGV producer id, limit (ordinals below it are admissible), count, seconds
-- Returns {ordinals, actuators} or nil before the learner has set the actuators
local actuators = redis.call('HMGET', KEYS[4], 'temperature', 'alpha', 'step', 'entropy_target_generation')
if not actuators[1] then
    return false
end
if (redis.call('GET', KEYS[6]) or 'run') ~= 'run' then
    return {{}, actuators}
end
local limit, count = tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6

local expired = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], '-inf', string.format('%.6f', now), 'BYSCORE')) do
    if tonumber(member) < limit then
        expired[#expired + 1] = tonumber(member)
    end
end
table.sort(expired)
local ordinals = {}
for i = 1, math.min(count, #expired) do
    ordinals[i] = expired[i]
end
if #ordinals > 0 then
    redis.call('HINCRBY', KEYS[5], 'releases', #ordinals)
end

local cursor = tonumber(redis.call('GET', KEYS[1]) or '0')
local new = math.min(count - #ordinals, limit - cursor)
if new > 0 then
    redis.call('INCRBY', KEYS[1], new)
    for ordinal = cursor, cursor + new - 1 do
        ordinals[#ordinals + 1] = ordinal
    end
end

local expiry = string.format('%.6f', now + tonumber(ARGV[4]))
for _, ordinal in ipairs(ordinals) do
    redis.call('ZADD', KEYS[2], expiry, ordinal)
    redis.call('HSET', KEYS[3], ordinal, ARGV[1])
end
return {ordinals, actuators}
