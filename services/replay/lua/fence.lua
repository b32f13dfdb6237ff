-- Begins every script of the consumer: a learner incarnation that is not the newest changes nothing.
-- KEYS[1] fence; ARGV[1] the caller's epoch
local epoch = redis.call('GET', KEYS[1]) or '0'
if epoch ~= ARGV[1] then
    return redis.error_reply('FENCED ' .. epoch)
end
