#!lua flags=allow-oom
-- Acknowledges entries whose effect a verified checkpoint holds.
-- KEYS fence, trajectories, counters
-- ARGV epoch, consumer group, then id, size or '' of each
-- Returns how many were pending
local acknowledged, bytes = 0, 0
for i = 3, #ARGV, 2 do
    local id, size = ARGV[i], tonumber(ARGV[i + 1])
    if redis.call('XACK', KEYS[2], ARGV[2], id) == 1 then
        if not size then
            local item = redis.call('XRANGE', KEYS[2], id, id)[1]
            size = item and #(item[2][6] or '') or 0
        end
        acknowledged, bytes = acknowledged + 1, bytes + size
    end
end
if acknowledged > 0 then
    redis.call('HINCRBY', KEYS[3], 'acknowledged', acknowledged)
    redis.call('HINCRBY', KEYS[3], 'released_bytes', bytes)
end
return acknowledged
