"""The changes of the entropy target's state, one Lua script each; `services.entropy_target.store` says what they do."""

from services.redis import idempotency

_NOW = """
local clock = redis.call('TIME')
local now = string.format('%d.%06d', clock[1], clock[2])
"""

# KEYS target, history
INITIALISE = (
    _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'generation', 1, 'updated_by', 'configuration', 'updated_at', now,
           'source', 'configuration')
redis.call('XADD', KEYS[2], '*', 'event', 'changed', 'generation', 1, 'by', 'configuration', 'at', now)
return 1
"""
)

# What both changes begin with: has this request come before, is there a learner step left that could apply it, and does
# the caller know the newest generation?
# KEYS target, applied, history, record of the idempotency key, audit, status, control; ARGV updated_by, expected
# generations or '*', digest or '', seconds of the first answer, origin.
_TERMS = (
    _NOW
    + idempotency.BEGIN
    + idempotency.FINISH
    + """
local newest = redis.call('HGET', KEYS[1], 'generation')
if not newest then return {'missing'} end
local repeated = earlier(KEYS[4], ARGV[3])
if repeated then return repeated end
local phase = redis.call('HGET', KEYS[6], 'phase')
if phase == 'finished' or phase == 'failed' then return {'ended', phase} end
if redis.call('GET', KEYS[7]) == 'stop' then return {'ended', 'stopping'} end
if ARGV[2] ~= '*' and not string.find(',' .. ARGV[2] .. ',', ',' .. newest .. ',', 1, true) then
    return {'stale', redis.call('HGETALL', KEYS[1])}
end
local function done(action, before, after)
    redis.call('XADD', KEYS[5], '*', 'action', action, 'by', ARGV[1], 'origin', ARGV[5], 'before', before or '',
               'after', after or '', 'generation', redis.call('HGET', KEYS[1], 'generation'), 'at', now)
    local document = redis.call('HGETALL', KEYS[1])
    remember(KEYS[4], ARGV[3], tonumber(ARGV[4]), document)
    return {'changed', document}
end
"""
)

# ARGV further: target, steps to move over, largest change, the configured first target or ''.
# Numbers pass through as text: Lua's own number formatting keeps only 14 digits.
CHANGE = (
    _TERMS
    + """
local before = redis.call('HGET', KEYS[1], 'target')
local current = before or redis.call('HGET', KEYS[2], 'target') or ARGV[9]
if current ~= '' and math.abs(tonumber(ARGV[6]) - tonumber(current)) > tonumber(ARGV[8]) + 1e-9 then
    return {'too far', current}
end
local generation = redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('HSET', KEYS[1], 'target', ARGV[6], 'over_steps', ARGV[7], 'updated_by', ARGV[1], 'updated_at', now,
           'source', 'api')
redis.call('XADD', KEYS[3], '*', 'event', 'changed', 'generation', generation, 'target', ARGV[6],
           'over_steps', ARGV[7], 'by', ARGV[1], 'at', now)
return done('set-target', before, ARGV[6])
"""
)

RESET = (
    _TERMS
    + """
local before = redis.call('HGET', KEYS[1], 'target')
if redis.call('HGET', KEYS[1], 'source') == 'api' then
    local generation = redis.call('HINCRBY', KEYS[1], 'generation', 1)
    redis.call('HDEL', KEYS[1], 'target', 'over_steps')
    redis.call('HSET', KEYS[1], 'updated_by', ARGV[1], 'updated_at', now, 'source', 'configuration')
    redis.call('XADD', KEYS[3], '*', 'event', 'changed', 'generation', generation, 'by', ARGV[1], 'at', now)
end
return done('reset-target', before)
"""
)

# KEYS target, applied, history, fence, steps
# ARGV generation, step, epoch, target in force or '', where it started or ''
MARK_APPLIED = (
    _NOW
    + """
local epoch = tonumber(redis.call('GET', KEYS[4]) or '0')
if tonumber(ARGV[3]) ~= epoch then return {'fenced', epoch} end
local generation, step = tonumber(ARGV[1]), tonumber(ARGV[2])
local newest = tonumber(redis.call('HGET', KEYS[1], 'generation') or '0')
if generation > newest then return {'unknown', newest} end
local applied = tonumber(redis.call('HGET', KEYS[2], 'generation') or '0')
if generation < applied then return {'older', applied} end
if ARGV[4] == '' then
    redis.call('HDEL', KEYS[2], 'target', 'target_step')
else
    redis.call('HSET', KEYS[2], 'target', ARGV[4], 'target_step', step)
end
if generation == applied and step >= tonumber(redis.call('HGET', KEYS[2], 'step')) then return {'known'} end
for skipped = applied + 1, generation - 1 do
    redis.call('XADD', KEYS[3], '*', 'event', 'superseded', 'generation', skipped, 'by', generation,
               'step', step, 'at', now)
end
redis.call('HSET', KEYS[2], 'generation', generation, 'step', step, 'at', now)
if ARGV[5] == '' then
    redis.call('HDEL', KEYS[2], 'start')
else
    redis.call('HSET', KEYS[2], 'start', ARGV[5])
end
redis.call('HSET', KEYS[5], generation, step)
redis.call('XADD', KEYS[3], '*', 'event', 'applied', 'generation', generation, 'step', step, 'at', now)
return {'applied'}
"""
)

# KEYS target, fence; ARGV starting entropy, epoch
RECORD_STARTING_ENTROPY = """
local epoch = tonumber(redis.call('GET', KEYS[2]) or '0')
if tonumber(ARGV[2]) ~= epoch then return {'fenced', epoch} end
redis.call('HSET', KEYS[1], 'starting_entropy', ARGV[1])
return {'recorded'}
"""
