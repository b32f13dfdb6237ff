#!lua flags=allow-oom
-- Acknowledges entries whose effect a verified checkpoint holds.
-- KEYS fence, trajectories, entry bytes, counters
-- ARGV epoch, consumer group, id...
-- Returns how many were pending
-- An entry has a size from the moment it is read until it is no longer pending.
local ids = {unpack(ARGV, 3)}
local bytes = 0
for _, size in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
    bytes = bytes + tonumber(size or '0')
end
redis.call('HDEL', KEYS[3], unpack(ids))
local acknowledged = redis.call('XACK', KEYS[2], ARGV[2], unpack(ids))
if acknowledged > 0 then
    redis.call('HINCRBY', KEYS[4], 'acknowledged', acknowledged)
    redis.call('HINCRBY', KEYS[4], 'released_bytes', bytes)
end
return acknowledged
