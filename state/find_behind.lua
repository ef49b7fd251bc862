-- Of many subjects, those of some places whose last answer is older than an hour, or that wait to be corrected.
--
-- KEYS  the subjects' own hashes
-- ARGV  the hour, as the hashes write it; then the places
-- Answers the numbers of those subjects, from 0 on. It may name one too many: who closes it looks at it again.

local found = {}
for i, key in ipairs(KEYS) do
  local published, outdated, offsets = unpack(redis.call('HMGET', key, 'published_hour', 'is_outdated', 'offsets'))
  if published and (published < ARGV[1] or outdated == 'true') then
    -- A subject that was only trained has no offsets: it belongs to whoever owns the first partition.
    local is_owned = offsets == '{}' and ARGV[2] == 'calls/0'
    for j = 2, #ARGV do
      is_owned = is_owned or string.find(offsets, '/' .. ARGV[j] .. '"', 1, true)
    end
    if is_owned then
      found[#found + 1] = i - 1
    end
  end
end
return found
