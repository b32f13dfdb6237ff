#!lua flags=allow-oom
-- Records as read the entries that XREADGROUP delivered, and says how many more may be read. Payloads do not pass
-- through here. Older entries that are pending and did not reach this reader come first: those delivered with a lost
-- reply, or to an incarnation that has been fenced off. While there are some, nothing is recorded.
-- KEYS fence, trajectories, counters, reading
-- ARGV epoch, consumer group, count, newest id that reached the reader (of the incarnations before, at first), budget
--      of unacknowledged bytes or '', 1 if the delivered entries replace those recorded as being read, bytes delivered,
--      how many of the delivered entries `add` did not write and count as produced, their bytes, id of each delivered
-- Returns {1 if the next entry would exceed the budget, else 0; how many may be read; {id of each that comes first}}
-- include: fence
local count, budget = tonumber(ARGV[3]), tonumber(ARGV[5])
local delivered = {unpack(ARGV, 10)}
local counted = redis.call('HMGET', KEYS[3], 'produced', 'read', 'produced_bytes', 'read_bytes', 'released_bytes')
for i = 1, 5 do
    counted[i] = tonumber(counted[i] or '0')
end
local produced, read, produced_bytes, read_bytes, released = unpack(counted)
local last_read = redis.call('HGET', KEYS[3], 'last_read') or '0-0'

local function newer(id, than)
    local a, b = string.match(id, '^(%d+)-(%d+)$')
    local c, d = string.match(than, '^(%d+)-(%d+)$')
    return tonumber(a) > tonumber(c) or (a == c and tonumber(b) > tonumber(d))
end
local new = delivered[1] and newer(delivered[1], last_read)

local function missed_up_to(last)
    local missed = {}
    for i, item in ipairs(redis.call('XPENDING', KEYS[2], ARGV[2], '(' .. ARGV[4], last, count)) do
        missed[i] = item[1]
    end
    return missed
end
-- Entries recorded by a call whose reply was lost come alone, so that a call records all of `delivered` or nothing.
local missed = {}
if ARGV[4] ~= last_read and (new or not delivered[1]) then
    missed = missed_up_to(last_read)
end
if #missed == 0 then
    missed = missed_up_to(delivered[1] and '(' .. delivered[1] or '+')
end
if #missed > 0 then
    return {0, 0, missed}
end

if ARGV[6] == '1' then
    redis.call('DEL', KEYS[4])
end
if delivered[1] then
    redis.call('SADD', KEYS[4], unpack(delivered))
end
if new then
    last_read = delivered[#delivered]
    produced, produced_bytes = produced + tonumber(ARGV[8]), produced_bytes + tonumber(ARGV[9])
    read, read_bytes = read + #delivered, read_bytes + tonumber(ARGV[7])
    redis.call('HSET', KEYS[3], 'produced', produced, 'produced_bytes', produced_bytes, 'read', read,
               'read_bytes', read_bytes, 'last_read', last_read)
end

local unread, unacknowledged, fitting = produced - read, read_bytes - released, 0
-- Single sizes matter only where not everything in the queue would fit.
if unread > 0 and (not budget or produced_bytes - released <= budget) then
    return {0, unread, missed}
end
for _, item in ipairs(redis.call('XRANGE', KEYS[2], '(' .. last_read, '+', 'COUNT', count)) do
    unacknowledged = unacknowledged + #(item[2][6] or '')
    if budget and unacknowledged > budget then
        return {fitting == 0 and 1 or 0, fitting, missed}
    end
    fitting = fitting + 1
end
return {0, fitting, missed}
