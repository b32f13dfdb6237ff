#!lua flags=allow-oom
-- Records the entries of the step that the learner computes. The step before it has succeeded, so the delivery counts
-- of its entries start again at 1.
-- KEYS fence, trajectories, learning
-- ARGV epoch, consumer group, consumer, id...
-- Returns 1
-- include: fence
for _, id in ipairs(redis.call('SMEMBERS', KEYS[3])) do
    local pending = redis.call('XPENDING', KEYS[2], ARGV[2], id, id, 1)[1]
    if pending and pending[4] > 1 then
        redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, id, 'RETRYCOUNT', 1, 'JUSTID')
    end
end
redis.call('DEL', KEYS[3])
for i = 4, #ARGV do
    redis.call('SADD', KEYS[3], ARGV[i])
end
return 1
