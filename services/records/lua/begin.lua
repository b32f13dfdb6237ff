-- Begins a learner incarnation at a step: deletes the records of that step and of those that follow it.
-- KEYS fence, records, status
-- ARGV epoch, first step
-- Returns nothing
-- include: fence
redis.call('HSET', KEYS[3], 'records_of', ARGV[1])
local step = tonumber(ARGV[2])
while redis.call('HDEL', KEYS[2], step) == 1 do
    step = step + 1
end
