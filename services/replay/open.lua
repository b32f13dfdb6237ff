#!lua flags=allow-oom
-- Begins a learner incarnation: fences off every earlier one and makes the consumer group if there is none.
-- KEYS fence, trajectories, counters
-- ARGV consumer group
-- Returns {the new epoch, newest id that any incarnation read}
local made = redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[1], '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
    return made
end
return {redis.call('INCR', KEYS[1]), redis.call('HGET', KEYS[3], 'last_read') or '0-0'}
