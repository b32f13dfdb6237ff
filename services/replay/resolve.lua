#!lua flags=allow-oom
-- Takes dead letters out of their stream and records what became of them.
-- KEYS dead letters, outcomes, counters
-- ARGV outcome (requeued | purged), reason, id...
-- Returns how many there were
local resolved = 0
for i = 3, #ARGV do
    local letter = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
    if letter then
        redis.call('XDEL', KEYS[1], ARGV[i])
        redis.call('XADD', KEYS[2], '*', 'letter', ARGV[i], 'group', letter[2][4], 'outcome', ARGV[1],
                   'reason', ARGV[2])
        redis.call('HINCRBY', KEYS[3], ARGV[1], 1)
        resolved = resolved + 1
    end
end
return resolved
