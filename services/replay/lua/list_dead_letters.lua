#!lua flags=no-writes
-- Lists dead letters, newest first, without their payloads; reads one at a time, since payloads are large.
-- KEYS dead letters
-- ARGV id of the dead letter before the page or '', count
-- Returns {id, group id, producer id, reason, deliveries, size in bytes} of each
local page, before = {}, ARGV[1] == '' and '+' or '(' .. ARGV[1]
while #page < tonumber(ARGV[2]) do
    local item = redis.call('XREVRANGE', KEYS[1], before, '-', 'COUNT', 1)[1]
    if not item then
        break
    end
    local fields = item[2]
    page[#page + 1] = {item[1], fields[4], fields[6], fields[10], fields[12], #fields[8]}
    before = '(' .. item[1]
end
return page
