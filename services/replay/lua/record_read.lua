#!lua flags=allow-oom
-- Enters into the books what XREADGROUP has taken, and says how much more there is to take. Payloads do not pass through
-- here. Nothing is entered while older entries are pending that did not reach this incarnation: taken while a reply got
-- lost, or by an incarnation that is fenced off by now. The reader gets those first.
-- KEYS fence, trajectories, counters, reading
-- ARGV epoch, consumer group, count, newest id that reached this incarnation, cap on unacknowledged bytes or '',
--      1 to begin anew what the reader has in hand, bytes of what was taken, how many of it `add` has not counted, their
--      bytes, id of each
-- Returns {1 if the next entry would exceed the cap, else 0; how many may be taken; {id of each that comes first}}
-- include: fence
local count, cap = tonumber(ARGV[3]), tonumber(ARGV[5])
local taken = {unpack(ARGV, 10)}
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
local new = taken[1] and newer(taken[1], last_read)

local function missed_up_to(last)
    local missed = {}
    for i, item in ipairs(redis.call('XPENDING', KEYS[2], ARGV[2], '(' .. ARGV[4], last, count)) do
        missed[i] = item[1]
    end
    return missed
end
-- What is in the books already comes alone, so that a call enters all that was taken or nothing.
local missed = {}
if ARGV[4] ~= last_read and (new or not taken[1]) then
    missed = missed_up_to(last_read)
end
if #missed == 0 then
    missed = missed_up_to(taken[1] and '(' .. taken[1] or '+')
end
if #missed > 0 then
    return {0, 0, missed}
end

if ARGV[6] == '1' then
    redis.call('DEL', KEYS[4])
end
if taken[1] then
    redis.call('SADD', KEYS[4], unpack(taken))
end
if new then
    last_read = taken[#taken]
    produced, produced_bytes = produced + tonumber(ARGV[8]), produced_bytes + tonumber(ARGV[9])
    read, read_bytes = read + #taken, read_bytes + tonumber(ARGV[7])
    redis.call('HSET', KEYS[3], 'produced', produced, 'produced_bytes', produced_bytes, 'read', read,
               'read_bytes', read_bytes, 'last_read', last_read)
end

local unread, held, fitting = produced - read, read_bytes - released, 0
-- Sizes are looked at only where not everything in the queue would fit.
if unread > 0 and (not cap or produced_bytes - released <= cap) then
    return {0, unread, missed}
end
for _, item in ipairs(redis.call('XRANGE', KEYS[2], '(' .. last_read, '+', 'COUNT', count)) do
    held = held + #(item[2][6] or '')
    if cap and held > cap then
        return {fitting == 0 and 1 or 0, fitting, missed}
    end
    fitting = fitting + 1
end
return {0, fitting, missed}
