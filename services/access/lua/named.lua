-- Fragment: {SHA-256, text of the record, record} of each token of a name, at most one unless something else wrote it.
-- KEYS[1] tokens
local function named(name)
    local found, stored = {}, redis.call('HGETALL', KEYS[1])
    for i = 1, #stored, 2 do
        local record = cjson.decode(stored[i + 1])
        if record.name == name then
            found[#found + 1] = {stored[i], stored[i + 1], record}
        end
    end
    return found
end
