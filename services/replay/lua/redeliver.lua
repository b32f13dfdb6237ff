#!lua flags=allow-oom
-- Delivers pending entries again and records them, in place of those before, as the entries that the learner reads.
-- KEYS fence, trajectories, reading
-- ARGV epoch, consumer group, id...
-- Returns {id, group id, producer id, data, deliveries} of each that is still pending
-- include: fence
local entries = {}
redis.call('DEL', KEYS[3])
for i = 3, #ARGV do
    local id = ARGV[i]
    local pending = redis.call('XPENDING', KEYS[2], ARGV[2], id, id, 1)[1]
    local item = redis.call('XRANGE', KEYS[2], id, id)[1]
    if pending and not item then
        return redis.error_reply('LOST entry ' .. id .. ' is pending but was deleted from the stream')
    end
    if pending then
        redis.call('SADD', KEYS[3], id)
        entries[#entries + 1] = {id, item[2][2], item[2][4] or '', item[2][6] or '', pending[4]}
    end
end
return entries
