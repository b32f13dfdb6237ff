-- Makes a token valid under a name, which has one token: an older one ends.
-- KEYS tokens, audit
-- ARGV[1] name, [2] scope, [3] SHA-256 of the token, [4] its record, [5] 1 to replace a valid token of that name,
--      [6] by, [7] origin
-- Returns {created}, {kept, record} for a token that is registered already, or {taken}
-- include: now
-- include: named
local wanted = cjson.decode(ARGV[4])
local older = {}
for _, entry in ipairs(named(ARGV[1])) do
    local digest, text, record = unpack(entry)
    local expires = record.expires_at
    local endless = not expires or expires == cjson.null
    if digest == ARGV[3] and record.scope == ARGV[2] and endless and wanted.expires_at == cjson.null then
        return {'kept', text}
    end
    if ARGV[5] ~= '1' and (endless or tonumber(now) < expires) then
        return {'taken'}
    end
    older[#older + 1] = digest
end
if #older > 0 then
    redis.call('HDEL', KEYS[1], unpack(older))
end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
redis.call('XADD', KEYS[2], '*', 'action', 'create-token', 'by', ARGV[6], 'origin', ARGV[7], 'before', '',
           'after', ARGV[1] .. ' ' .. ARGV[2], 'at', now)
return {'created'}
