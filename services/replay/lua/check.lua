#!lua flags=no-writes
-- Checks that the caller is the newest learner incarnation.
-- KEYS fence
-- ARGV epoch
-- Returns 1
-- include: fence
return 1
