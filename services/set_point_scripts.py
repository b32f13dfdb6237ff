"""The changes of the set-point's state, one Lua script each; `services.set_point` says what they do."""

_NOW = """
local clock = redis.call('TIME')
local now = string.format('%d.%06d', clock[1], clock[2])
"""

# KEYS set-point, history
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

# KEYS set-point, applied, history; ARGV target, updated_by, largest change, the configured first target or ''.
# Numbers pass through as text: Lua's own number formatting keeps only 14 digits.
CHANGE = (
    _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return {'missing'} end
local current = redis.call('HGET', KEYS[1], 'target') or redis.call('HGET', KEYS[2], 'target') or ARGV[4]
if current ~= '' and math.abs(tonumber(ARGV[1]) - tonumber(current)) > tonumber(ARGV[3]) + 1e-9 then
    return {'too far', current}
end
local generation = redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('HSET', KEYS[1], 'target', ARGV[1], 'updated_by', ARGV[2], 'updated_at', now, 'source', 'api')
redis.call('XADD', KEYS[3], '*', 'event', 'changed', 'generation', generation, 'target', ARGV[1],
           'by', ARGV[2], 'at', now)
return {'changed', redis.call('HGETALL', KEYS[1])}
"""
)

# KEYS set-point, history; ARGV updated_by
RESET = (
    _NOW
    + """
local source = redis.call('HGET', KEYS[1], 'source')
if not source then return {'missing'} end
if source == 'api' then
    local generation = redis.call('HINCRBY', KEYS[1], 'generation', 1)
    redis.call('HDEL', KEYS[1], 'target')
    redis.call('HSET', KEYS[1], 'updated_by', ARGV[1], 'updated_at', now, 'source', 'configuration')
    redis.call('XADD', KEYS[2], '*', 'event', 'changed', 'generation', generation, 'by', ARGV[1], 'at', now)
end
return {'configured', redis.call('HGETALL', KEYS[1])}
"""
)

# KEYS set-point, applied, history, fence; ARGV generation, step, epoch, target in force or ''
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
redis.call('XADD', KEYS[3], '*', 'event', 'applied', 'generation', generation, 'step', step, 'at', now)
return {'applied'}
"""
)

# KEYS set-point, fence; ARGV starting entropy, epoch
RECORD_STARTING_ENTROPY = """
local epoch = tonumber(redis.call('GET', KEYS[2]) or '0')
if tonumber(ARGV[2]) ~= epoch then return {'fenced', epoch} end
redis.call('HSET', KEYS[1], 'starting_entropy', ARGV[1])
return {'recorded'}
"""
