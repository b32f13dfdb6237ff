#!lua flags=allow-oom
-- Acknowledges entries whose effect a verified checkpoint holds.
-- KEYS fence, trajectories, counters
-- ARGV epoch, consumer group, size, id...
--      size: bytes of these entries, of which all or none are pending; '' where the script looks each one up
-- Returns how many were pending
-- include: fence
local acknowledged, bytes = 0, tonumber(ARGV[3])
if bytes then
    acknowledged = redis.call('XACK', KEYS[2], ARGV[2], unpack(ARGV, 4))
else
    bytes = 0
    for i = 4, #ARGV do
        if redis.call('XACK', KEYS[2], ARGV[2], ARGV[i]) == 1 then
            local item = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])[1]
            acknowledged, bytes = acknowledged + 1, bytes + (item and #(item[2][6] or '') or 0)
        end
    end
end
if acknowledged > 0 then
    redis.call('HINCRBY', KEYS[3], 'acknowledged', acknowledged)
    redis.call('HINCRBY', KEYS[3], 'released_bytes', bytes)
end
return acknowledged
