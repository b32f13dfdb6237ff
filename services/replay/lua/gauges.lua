#!lua flags=no-writes
-- Reads what the counters do not hold: the wait of the oldest unread entry, and the leases by role.
-- KEYS counters, trajectories, lost, leases...
-- Returns {milliseconds or -1, places lost, {leases held, leases expired}...}
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local last_read = redis.call('HGET', KEYS[1], 'last_read') or '0-0'
local oldest = redis.call('XRANGE', KEYS[2], '(' .. last_read, '+', 'COUNT', 1)[1]
local age = oldest and math.max(0, math.floor(now * 1000) - tonumber(string.match(oldest[1], '^%d+'))) or -1
local reply = {age, redis.call('SCARD', KEYS[3])}
for i = 4, #KEYS do
    local expired = redis.call('ZCOUNT', KEYS[i], '-inf', string.format('%.6f', now))
    reply[#reply + 1] = {redis.call('ZCARD', KEYS[i]) - expired, expired}
end
return reply
