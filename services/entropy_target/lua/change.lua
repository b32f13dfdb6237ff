-- Sets a new entropy target under the next generation, unless it lies too far from the current one.
-- KEYS and ARGV[1] to [6] as in conditions.lua
-- ARGV[7] target, [8] learner steps of the ramp, [9] largest change, [10] first configured target or ''
-- Returns {changed, target}, {too far, current target} or what conditions.lua returns
-- include: conditions
-- Numbers pass through as text: Lua formats a number with 14 digits.
local before = redis.call('HGET', KEYS[1], 'target')
local current = before or redis.call('HGET', KEYS[2], 'target') or ARGV[10]
if current ~= '' and math.abs(tonumber(ARGV[7]) - tonumber(current)) > tonumber(ARGV[9]) + 1e-9 then
    return {'too far', current}
end
local generation = redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('HSET', KEYS[1], 'target', ARGV[7], 'over_steps', ARGV[8], 'updated_by', ARGV[1], 'updated_at', now,
           'source', 'api')
redis.call('XADD', KEYS[3], '*', 'event', 'changed', 'generation', generation, 'target', ARGV[7],
           'over_steps', ARGV[8], 'by', ARGV[1], 'at', now)
return done('set-target', before, ARGV[7])
