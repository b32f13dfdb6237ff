-- Stores the answer to the request of an idempotency key. The first answer stays; an expired record gets none.
-- KEYS record of the key
-- ARGV HTTP status, body, ETag
-- Returns 1 if the answer was stored, else 0
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HEXISTS', KEYS[1], 'status') == 0 then
    redis.call('HSET', KEYS[1], 'status', ARGV[1], 'body', ARGV[2], 'etag', ARGV[3])
    return 1
end
return 0
