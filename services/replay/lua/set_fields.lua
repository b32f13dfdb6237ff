#!lua flags=allow-oom
-- Writes the fields of a hash of the learner: the actuators, the published version or the mixes of a curriculum.
-- KEYS fence, hash
-- ARGV epoch, field, value...
-- Returns the number of new fields
-- include: fence
return redis.call('HSET', KEYS[2], unpack(ARGV, 2))
