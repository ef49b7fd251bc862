-- Read several hashes of one subject at one moment, so that a write in between cannot tear them apart.
--
-- KEYS   the hashes
-- Answers one list of names and values by turns for each key.

local found = {}
for i, key in ipairs(KEYS) do
  found[i] = redis.call('HGETALL', key)
end
return found
