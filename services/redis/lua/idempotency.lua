-- Fragment: the record of an idempotency key. An empty digest means that the request has no key.

-- The reply to a request that came before: {again, document}, {reused} for another request's key; nil for a new one.
local function earlier_reply(record, digest)
    if digest == '' then
        return nil
    end
    local stored = redis.call('HMGET', record, 'digest', 'document')
    if not stored[1] then
        return nil
    end
    if stored[1] ~= digest then
        return {'reused'}
    end
    return {'again', cjson.decode(stored[2])}
end

-- seconds: how long the answer may take; kept: how long the record lives; document: flat list of names and values.
local function remember(record, digest, seconds, kept, document)
    if digest == '' then
        return
    end
    local clock = redis.call('TIME')
    local answered_by = tostring(clock[1] + clock[2] / 1e6 + seconds)
    redis.call('HSET', record, 'digest', digest, 'document', cjson.encode(document), 'until', answered_by)
    redis.call('EXPIRE', record, kept)
end
