-- Read the revisions of many subjects, and see whether all their hashes can be written.
--
-- KEYS   for each subject the hashes that are to be set; the last one is its own, which holds the revision
-- ARGV   for each subject, how many of the keys are its own
-- Answers the revision of each ('0': not stored), or an empty text where one of its keys is not a hash.

local found = {}
local at = 0
for i, keys in ipairs(ARGV) do
  found[i] = false
  for _ = 1, keys - 1 do
    at = at + 1
    if type(redis.pcall('HLEN', KEYS[at])) == 'table' then
      found[i] = ''
    end
  end
  at = at + 1
  local rev = redis.pcall('HGET', KEYS[at], 'rev')
  if type(rev) == 'table' then
    found[i] = ''
  end
  found[i] = found[i] or rev or '0'
end
return found
