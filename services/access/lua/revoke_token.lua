-- Ends the token of a name.
-- KEYS tokens, audit
-- ARGV name, by, origin
-- Returns 1 if there was one, else 0
-- include: now
-- include: named
local found = named(ARGV[1])
if #found == 0 then
    return 0
end
for _, entry in ipairs(found) do
    redis.call('HDEL', KEYS[1], entry[1])
end
redis.call('XADD', KEYS[2], '*', 'action', 'revoke-token', 'by', ARGV[2], 'origin', ARGV[3],
           'before', ARGV[1] .. ' ' .. found[1][3].scope, 'after', '', 'at', now)
return 1
