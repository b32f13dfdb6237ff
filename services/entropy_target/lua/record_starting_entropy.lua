-- Records the entropy of the run's first learner step.
-- KEYS fence, target
-- ARGV epoch, entropy in nats per token
-- Returns nothing
-- include: fence
redis.call('HSET', KEYS[2], 'starting_entropy', ARGV[2])
