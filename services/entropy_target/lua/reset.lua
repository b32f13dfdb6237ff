-- Returns the entropy target to the configured schedule under the next generation, if a person has set it.
-- KEYS and ARGV as in conditions.lua
-- Returns {changed, target} or what conditions.lua returns
-- include: conditions
local before = redis.call('HGET', KEYS[1], 'target')
if redis.call('HGET', KEYS[1], 'source') == 'api' then
    local generation = redis.call('HINCRBY', KEYS[1], 'generation', 1)
    redis.call('HDEL', KEYS[1], 'target', 'over_steps')
    redis.call('HSET', KEYS[1], 'updated_by', ARGV[1], 'updated_at', now, 'source', 'configuration')
    redis.call('XADD', KEYS[3], '*', 'event', 'changed', 'generation', generation, 'by', ARGV[1], 'at', now)
end
return done('reset-target', before)
