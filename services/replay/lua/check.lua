#!lua flags=no-writes
-- Only the fence.
return 1
