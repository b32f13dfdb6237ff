-- Fragment: the conditions of a change, checked before it, and `done`, which ends it.
-- KEYS[1] target, [2] applied, [3] history, [4] record of the idempotency key, [5] audit, [6] status, [7] control
-- ARGV[1] updated by, [2] accepted generations separated by commas or '*', [3] digest of the request or '',
--      [4] seconds that the first answer may take, [5] seconds that its record is kept, [6] origin
-- Ends the script with {missing}, {again, target}, {reused}, {ended, phase or stopping} or {stale, target}
-- include: now
-- include: idempotency
local newest = redis.call('HGET', KEYS[1], 'generation')
if not newest then
    return {'missing'}
end
local earlier = earlier_reply(KEYS[4], ARGV[3])
if earlier then
    return earlier
end
local phase = redis.call('HGET', KEYS[6], 'phase')
if phase == 'finished' or phase == 'failed' then
    return {'ended', phase}
end
if redis.call('GET', KEYS[7]) == 'stop' then
    return {'ended', 'stopping'}
end
if ARGV[2] ~= '*' and not string.find(',' .. ARGV[2] .. ',', ',' .. newest .. ',', 1, true) then
    return {'stale', redis.call('HGETALL', KEYS[1])}
end

local function done(action, before, after)
    redis.call('XADD', KEYS[5], '*', 'action', action, 'by', ARGV[1], 'origin', ARGV[6], 'before', before or '',
               'after', after or '', 'generation', redis.call('HGET', KEYS[1], 'generation'), 'at', now)
    local document = redis.call('HGETALL', KEYS[1])
    remember(KEYS[4], ARGV[3], tonumber(ARGV[4]), ARGV[5], document)
    return {'changed', document}
end
