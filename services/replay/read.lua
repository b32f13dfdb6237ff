#!lua flags=allow-oom
-- Reads entries in admission order: first those whose reply got lost on the way to this incarnation, then new ones.
-- A blocking XREADGROUP would not do: that of a frozen learner could not be fenced and would take entries later.
-- KEYS fence, trajectories, entry bytes, counters, reading
-- ARGV epoch, consumer group, consumer, count, newest id that reached this incarnation, cap on unacknowledged bytes or '',
--      1 to begin anew what the reader has in hand
-- Returns {1 if the next entry would exceed the cap, else 0; {id, group id, producer id, data, deliveries} of each}
if ARGV[7] == '1' then
    redis.call('DEL', KEYS[5])
end
local entries = {}
for i, missed in ipairs(redis.call('XPENDING', KEYS[2], ARGV[2], '(' .. ARGV[5], '+', ARGV[4])) do
    local fields = redis.call('XRANGE', KEYS[2], missed[1], missed[1])[1][2]
    redis.call('SADD', KEYS[5], missed[1])
    entries[i] = {missed[1], fields[2], fields[4] or '', fields[6] or '', missed[4]}
end
if #entries > 0 then
    return {0, entries}
end
local count, cap = tonumber(ARGV[4]), tonumber(ARGV[6])
local counted = redis.call('HMGET', KEYS[4], 'produced_bytes', 'read_bytes', 'released_bytes', 'last_read')
local released = tonumber(counted[3] or '0')
-- Sizes are looked at only where not everything in the queue would fit.
if cap and tonumber(counted[1] or '0') - released > cap then
    local held, fitting = tonumber(counted[2] or '0') - released, 0
    for _, item in ipairs(redis.call('XRANGE', KEYS[2], '(' .. (counted[4] or '0-0'), '+', 'COUNT', count)) do
        held = held + #(item[2][6] or '')
        if held > cap then
            break
        end
        fitting = fitting + 1
    end
    if fitting == 0 then
        return {held > cap and 1 or 0, entries}
    end
    count = fitting
end
local reply = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', count, 'STREAMS', KEYS[2], '>')
if not reply then
    return {0, entries}
end
local bytes, foreign, foreign_bytes = 0, 0, 0
local sizes, ids = {}, {}
for i, item in ipairs(reply[1][2]) do
    local id, fields = item[1], item[2]
    local data = fields[6] or ''
    -- What something else than `add` has put into the stream may have fewer fields, and nobody counted it.
    if not string.match(fields[2], '^%l+:%d+:%d+$') then
        foreign, foreign_bytes = foreign + 1, foreign_bytes + #data
    end
    sizes[2 * i - 1], sizes[2 * i], ids[i] = id, #data, id
    bytes = bytes + #data
    entries[i] = {id, fields[2], fields[4] or '', data, 1}
end
redis.call('HSET', KEYS[3], unpack(sizes))
redis.call('SADD', KEYS[5], unpack(ids))
if foreign > 0 then
    redis.call('HINCRBY', KEYS[4], 'produced', foreign)
    redis.call('HINCRBY', KEYS[4], 'produced_bytes', foreign_bytes)
end
redis.call('HINCRBY', KEYS[4], 'read', #entries)
redis.call('HINCRBY', KEYS[4], 'read_bytes', bytes)
redis.call('HSET', KEYS[4], 'last_read', entries[#entries][1])
return {0, entries}
