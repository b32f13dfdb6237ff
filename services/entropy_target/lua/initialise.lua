-- Writes generation 1 of the entropy target: the configured schedule. Keeps a target that exists.
-- KEYS target, history
-- Returns 1 if it was written, else 0
-- include: now
if redis.call('EXISTS', KEYS[1]) == 1 then
    return 0
end
redis.call('HSET', KEYS[1], 'generation', 1, 'updated_by', 'configuration', 'updated_at', now,
           'source', 'configuration')
redis.call('XADD', KEYS[2], '*', 'event', 'changed', 'generation', 1, 'by', 'configuration', 'at', now)
return 1
