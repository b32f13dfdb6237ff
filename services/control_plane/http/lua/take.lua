-- Takes one request from a token's bucket. A token that is in none of the hashes writes nothing.
-- KEYS[1] bucket: the time at which it is full again, microseconds; further keys: hashes of tokens, none: any token
-- ARGV interval between requests, depth of the bucket, both in microseconds; SHA-256 of the token
-- Returns microseconds to wait, 0 if the request was taken, -1 for a token that is in none of the hashes
for i = 2, #KEYS do
    if redis.call('HEXISTS', KEYS[i], ARGV[3]) == 1 then
        break
    end
    if i == #KEYS then
        return -1
    end
end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, depth = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
if full - now + interval > depth then
    return math.ceil(full - now + interval - depth)
end
full = full + interval
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1000)
return 0
