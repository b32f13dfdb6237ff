-- Stores the record of one step and adds an event.
-- KEYS fence, records, events
-- ARGV epoch, step, record, events kept
-- Returns nothing
-- include: fence
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'event', 'step', 'step', ARGV[2])
