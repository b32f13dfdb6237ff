-- Fragment: only the newest learner incarnation may write. Before any other command of the script.
-- KEYS[1] fence; ARGV[1] the caller's epoch
-- Ends the script with the error FENCED <newest epoch> for an older one; `services.redis.fencing` decodes it.
local newest_epoch = redis.call('GET', KEYS[1]) or '0'
if newest_epoch ~= ARGV[1] then
    return redis.error_reply('FENCED ' .. newest_epoch)
end
