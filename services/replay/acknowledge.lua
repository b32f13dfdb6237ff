#!lua flags=allow-oom
-- Acknowledges entries whose effect a verified checkpoint holds.
-- KEYS fence, trajectories, entry bytes, counters
-- ARGV epoch, consumer group, id...
-- Returns how many were pending
local acknowledged, bytes = 0, 0
for i = 3, #ARGV do
    if redis.call('XACK', KEYS[2], ARGV[2], ARGV[i]) == 1 then
        acknowledged = acknowledged + 1
        bytes = bytes + tonumber(redis.call('HGET', KEYS[3], ARGV[i]) or '0')
        redis.call('HDEL', KEYS[3], ARGV[i])
    end
end
if acknowledged > 0 then
    redis.call('HINCRBY', KEYS[4], 'acknowledged', acknowledged)
    redis.call('HINCRBY', KEYS[4], 'released_bytes', bytes)
end
return acknowledged
