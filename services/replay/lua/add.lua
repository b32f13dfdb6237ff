#!lua
-- Atomically checks duplicates and capacity and adds groups to the stream. Ends their leases, whichever producer holds them.
-- KEYS trajectories, seen bitmap, seen attempts, leases, lease owners, cursor, counters, lost
-- ARGV role, producer id, capacity, then for each group: ordinal, attempt, data
-- Returns added, duplicate, full or unleased for each
local role, producer = ARGV[1], ARGV[2]
local cursor = tonumber(redis.call('GET', KEYS[6]) or '0')
local produced, read = unpack(redis.call('HMGET', KEYS[7], 'produced', 'read'))
local room = tonumber(ARGV[3]) - tonumber(produced or '0') + tonumber(read or '0')
local added, bytes, duplicates, refused = 0, 0, 0, 0

local function add(ordinal, attempt, data)
    if tonumber(ordinal) >= cursor then
        return 'unleased'
    end
    local first = tonumber(attempt) == 0
    local again = ordinal .. ':' .. attempt
    local seen = first and redis.call('GETBIT', KEYS[2], ordinal) or redis.call('SISMEMBER', KEYS[3], again)
    if seen == 1 then
        duplicates = duplicates + 1
        return 'duplicate'
    end
    if room <= added then
        refused = refused + 1
        return 'full'
    end
    redis.call('XADD', KEYS[1], '*', 'group', role .. ':' .. again, 'producer', producer, 'data', data)
    if first then
        redis.call('SETBIT', KEYS[2], ordinal, 1)
        redis.call('ZREM', KEYS[4], ordinal)
        redis.call('HDEL', KEYS[5], ordinal)
    else
        redis.call('SADD', KEYS[3], again)
        redis.call('SREM', KEYS[8], role .. ':' .. ordinal)
    end
    added, bytes = added + 1, bytes + #data
    return 'added'
end

local outcomes = {}
for i = 4, #ARGV, 3 do
    outcomes[#outcomes + 1] = add(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
local changes = {produced = added, produced_bytes = bytes, duplicates = duplicates, refused_full = refused}
for counter, change in pairs(changes) do
    if change > 0 then
        redis.call('HINCRBY', KEYS[7], counter, change)
    end
end
return outcomes
