#!lua flags=allow-oom
-- Sets a new expiry for the leases that the producer still owns.
-- KEYS leases, lease owners
-- ARGV producer id, seconds, ordinal...
-- Returns the ordinals it owns
local clock = redis.call('TIME')
local expiry = string.format('%.6f', clock[1] + clock[2] / 1e6 + tonumber(ARGV[2]))
local owned = {}
for i = 3, #ARGV do
    if redis.call('HGET', KEYS[2], ARGV[i]) == ARGV[1] then
        redis.call('ZADD', KEYS[1], expiry, ARGV[i])
        owned[#owned + 1] = tonumber(ARGV[i])
    end
end
return owned
