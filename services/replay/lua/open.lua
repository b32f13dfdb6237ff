#!lua flags=allow-oom
-- Begins a learner incarnation: fences off every earlier one and makes the consumer group if there is none. Counts one
-- delivery against the entries that the incarnation before was reading or learning from; a repeated call counts none.
-- KEYS fence, trajectories, counters, reading, learning
-- ARGV consumer group, consumer
-- Returns {the new epoch, newest id that any incarnation has read}
local made = redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[1], '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
    return made
end
for _, id in ipairs(redis.call('SUNION', KEYS[4], KEYS[5])) do
    local pending = redis.call('XPENDING', KEYS[2], ARGV[1], id, id, 1)[1]
    if pending then
        redis.call('XCLAIM', KEYS[2], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', pending[4] + 1, 'JUSTID')
    end
end
redis.call('DEL', KEYS[4], KEYS[5])
return {redis.call('INCR', KEYS[1]), redis.call('HGET', KEYS[3], 'last_read') or '0-0'}
