-- Read what is published of many series, each as one text: whoever reads hundreds of thousands of them then takes a
-- few values out of a reply instead of twenty for each.
--
-- KEYS   hashes of subjects and of series; a subject's own ends with the brace of its tag
-- ARGV   the version of a series; then its fields, of which the first is its version
-- Answers for a subject its minutes; for a series the values of those fields, a line each, which is empty where there
-- is no such series, and nothing where that would not be all of it: it is of another version, or a field is missing.

local fields = { unpack(ARGV, 2) }
local found = {}
for i, key in ipairs(KEYS) do
  if string.byte(key, -1) == 125 then
    found[i] = redis.call('HGET', key, 'minutes')
  else
    local values = redis.call('HMGET', key, unpack(fields))
    local is_whole = values[1] == ARGV[1]
    for j = 2, #fields do
      is_whole = is_whole and values[j]
    end
    if not values[1] then
      found[i] = ''
    else
      found[i] = is_whole and table.concat(values, '\n')
    end
  end
end
return found
