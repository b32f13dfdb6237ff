-- Writes fields of a run's status and renews its heartbeat. A phase that changes adds an event and the time of its
-- beginning; one that is written again does not.
-- KEYS fence, status, events
-- ARGV epoch of the learner incarnation or '' for the driver, events kept, field, value...
-- Returns nothing
if ARGV[1] ~= '' then
    -- include: fence
end
-- include: now
redis.call('HSET', KEYS[2], 'heartbeat', now, unpack(ARGV, 3))
local phase = redis.call('HGET', KEYS[2], 'phase')
if phase and phase ~= redis.call('HGET', KEYS[2], 'announced') then
    redis.call('HSET', KEYS[2], 'announced', phase, 'phase_since', now)
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'event', 'phase', 'phase', phase)
end
