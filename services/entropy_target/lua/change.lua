-- Sets a new entropy target under the next generation, unless it lies too far from the current one.
-- KEYS and ARGV[1] to [6] as in conditions.lua
-- ARGV[7] target, [8] learner steps of the ramp, either '' to keep that of the document; [9] largest change,
--      [10] first configured target or ''
-- Returns {changed, target}, {too far, current target}, {no target} or what conditions.lua returns
-- include: conditions
-- Numbers pass through as text: Lua formats a number with 14 digits.
local before, ramp = unpack(redis.call('HMGET', KEYS[1], 'target', 'over_steps'))
local target = ARGV[7] ~= '' and ARGV[7] or before
if not target then
    return {'no target'}
end
local over_steps = ARGV[8] ~= '' and ARGV[8] or ramp or '0'
local current = before or redis.call('HGET', KEYS[2], 'target') or ARGV[10]
if current ~= '' and math.abs(tonumber(target) - tonumber(current)) > tonumber(ARGV[9]) + 1e-9 then
    return {'too far', current}
end
local generation = redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('HSET', KEYS[1], 'target', target, 'over_steps', over_steps, 'updated_by', ARGV[1], 'updated_at', now,
           'source', 'api')
redis.call('XADD', KEYS[3], '*', 'event', 'changed', 'generation', generation, 'target', target,
           'over_steps', over_steps, 'by', ARGV[1], 'at', now)
return done('set-target', before, target)
