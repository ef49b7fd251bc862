-- A short hash of several hashes of one subject, in the order in which they are kept.
--
-- KEYS   the hashes
-- Answers the first 16 digits of the SHA-1 of all lengths and of all names and values (`state.redis_export.fingerprint`).

local lengths = {}
local content = {}
for i, key in ipairs(KEYS) do
  local own = {}
  for at, each in ipairs(redis.call('HGETALL', key)) do
    own[at] = #each
    content[#content + 1] = each
  end
  lengths[i] = table.concat(own, ',')
end
return string.sub(redis.sha1hex(table.concat(lengths, ';') .. '|' .. table.concat(content)), 1, 16)
