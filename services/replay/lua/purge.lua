#!lua flags=allow-oom
-- Deletes dead letters. Their places in the learner's steps stay lost.
-- KEYS dead letters, outcomes, counters, audit
-- ARGV by, origin, reason, id...
-- Returns {letter, group id, outcome, became, reason, by, at} of each that was purged or requeued, now or before
-- include: resolve_dead_letter
local resolved = {}
for i = 4, #ARGV do
    local letter = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
    local outcome = letter and resolve(ARGV[i], letter[2][4], 'purged', '', ARGV[3]) or earlier_outcome(ARGV[i])
    if outcome then
        resolved[#resolved + 1] = outcome
    end
end
return resolved
