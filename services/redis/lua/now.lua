-- Fragment: `now`, the server's clock as text, seconds since the epoch with six decimals.
local clock = redis.call('TIME')
local now = string.format('%d.%06d', clock[1], clock[2])
