#!lua flags=allow-oom
-- Delivers pending entries once more. XCLAIM, unlike a history read, makes the delivery count durable.
-- KEYS fence, trajectories
-- ARGV epoch, consumer group, consumer, id...
-- Returns {id, group id, producer id, data, deliveries} of each that is still pending
local entries = {}
for i = 4, #ARGV do
    local id = ARGV[i]
    local pending = redis.call('XPENDING', KEYS[2], ARGV[2], id, id, 1)[1]
    local item = redis.call('XRANGE', KEYS[2], id, id)[1]
    if pending and not item then
        return redis.error_reply('LOST entry ' .. id .. ' is pending but was deleted from the stream')
    end
    if pending then
        local deliveries = pending[4] + 1
        redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, id, 'RETRYCOUNT', deliveries, 'JUSTID')
        entries[#entries + 1] = {id, item[2][2], item[2][4] or '', item[2][6] or '', deliveries}
    end
end
return entries
