-- Requests a state or a checkpoint of a run, and adds the request to the audit.
-- KEYS desired state, checkpoints, status, audit
-- ARGV action, by, origin
-- Returns {done, desired state} or {refused, phase or stopping}
-- include: now
local state = redis.call('GET', KEYS[1]) or 'run'
local phase = redis.call('HGET', KEYS[3], 'phase')
local wanted = ({pause = 'pause', resume = 'run', stop = 'stop'})[ARGV[1]] or state
local ended = phase == 'finished' or phase == 'failed'
if (ended or state == 'stop') and ARGV[1] ~= 'stop' then
    return {'refused', ended and phase or 'stopping'}
end
if wanted ~= state then
    redis.call('SET', KEYS[1], wanted)
end
if ARGV[1] == 'checkpoint' then
    redis.call('HINCRBY', KEYS[2], 'requested', 1)
end
redis.call('XADD', KEYS[4], '*', 'action', ARGV[1], 'by', ARGV[2], 'origin', ARGV[3], 'before', state,
           'after', wanted, 'at', now)
return {'done', wanted}
