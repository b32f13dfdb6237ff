-- Records which generation and which target are in force at a learner step.
-- KEYS fence, target, applied, history, steps
-- ARGV epoch, generation, step, target in force or '', target that a ramp starts from or ''
-- Returns {applied} for a new generation or an earlier step of the current one, {known}, {older, generation in force}
--         or {unknown, newest generation}
-- include: fence
-- include: now
local generation, step = tonumber(ARGV[2]), tonumber(ARGV[3])
local newest = tonumber(redis.call('HGET', KEYS[2], 'generation') or '0')
if generation > newest then
    return {'unknown', newest}
end
local applied = tonumber(redis.call('HGET', KEYS[3], 'generation') or '0')
if generation < applied then
    return {'older', applied}
end
if ARGV[4] == '' then
    redis.call('HDEL', KEYS[3], 'target', 'target_step')
else
    redis.call('HSET', KEYS[3], 'target', ARGV[4], 'target_step', step)
end
if generation == applied and step >= tonumber(redis.call('HGET', KEYS[3], 'step')) then
    return {'known'}
end
for skipped = applied + 1, generation - 1 do
    redis.call('XADD', KEYS[4], '*', 'event', 'superseded', 'generation', skipped, 'by', generation,
               'step', step, 'at', now)
end
redis.call('HSET', KEYS[3], 'generation', generation, 'step', step, 'at', now)
if ARGV[5] == '' then
    redis.call('HDEL', KEYS[3], 'start')
else
    redis.call('HSET', KEYS[3], 'start', ARGV[5])
end
redis.call('HSET', KEYS[5], generation, step)
redis.call('XADD', KEYS[4], '*', 'event', 'applied', 'generation', generation, 'step', step, 'at', now)
return {'applied'}
