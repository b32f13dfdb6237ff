#!lua flags=allow-oom
-- Deletes the entries before the lowest one that is pending or not yet read.
-- KEYS fence, trajectories, counters
-- ARGV epoch, consumer group
-- Returns how many entries were deleted
-- include: fence
local lowest = redis.call('XPENDING', KEYS[2], ARGV[2])[2]
if not lowest then
    local last_read = redis.call('HGET', KEYS[3], 'last_read')
    if not last_read then
        return 0
    end
    local milliseconds, sequence = string.match(last_read, '^(%d+)-(%d+)$')
    lowest = string.format('%s-%.0f', milliseconds, tonumber(sequence) + 1)
end
return redis.call('XTRIM', KEYS[2], 'MINID', '=', lowest)
