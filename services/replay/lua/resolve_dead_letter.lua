-- Fragment: resolves a dead letter, that is, removes it from its stream and records its outcome and the caller.
-- KEYS[1] dead letters, [2] outcomes, [3] counters, [4] audit; ARGV[1] by, [2] origin
-- include: now
local OUTCOMES_SEARCHED = 1000

-- The outcome of a dead letter that was resolved before, so that a repeated request gets its first answer; else false.
local function earlier_outcome(letter)
    for _, item in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', OUTCOMES_SEARCHED)) do
        local fields = item[2]
        if fields[2] == letter then
            return {fields[2], fields[4], fields[6], fields[8], fields[10], fields[12], fields[14]}
        end
    end
    return false
end

-- Returns {letter, group id, outcome, became, reason, by, at}.
local function resolve(letter, group, outcome, became, reason)
    redis.call('XDEL', KEYS[1], letter)
    redis.call('XADD', KEYS[2], '*', 'letter', letter, 'group', group, 'outcome', outcome, 'became', became,
               'reason', reason, 'by', ARGV[1], 'at', now)
    redis.call('HINCRBY', KEYS[3], outcome, 1)
    local requeued = outcome == 'requeued'
    local action = requeued and 'requeue-dead-letter' or 'purge-dead-letter'
    redis.call('XADD', KEYS[4], '*', 'action', action, 'by', ARGV[1], 'origin', ARGV[2], 'before', group,
               'after', requeued and became or 'purged: ' .. reason, 'letter', letter, 'at', now)
    return {letter, group, outcome, became, reason, ARGV[1], now}
end
