-- Write one subject in one piece, if nobody else has written it since it was read.
--
-- KEYS   the hashes to set; the last one is the subject's own, which holds the revision
-- ARGV   the revision that was read ('0': not stored); how many fields are no longer kept, and how many of the keys,
--        from the first one on, are to lose them, then these fields; then for each key how many arguments are its own,
--        then those: names and values by turns
-- Answers 1 when written, 0 when refused; a refused write has changed nothing.
--
-- The subject's hash is set last: should a command before it fail, the stored revision is still the old one, and the
-- same write can be repeated.

if (redis.call('HGET', KEYS[#KEYS], 'rev') or '0') ~= ARGV[1] then
  return 0
end

-- Lua's stack ends at about 8000 values, and a long replay can fill an outbox with more than that.
local most = 4000

local removed = tonumber(ARGV[2])
local losing = removed > 0 and tonumber(ARGV[3]) or 0
local sizes = 3 + removed

local first = sizes + #KEYS + 1
for i, key in ipairs(KEYS) do
  if i <= losing then
    redis.call('HDEL', key, unpack(ARGV, 4, sizes))
  end
  local last = first + tonumber(ARGV[sizes + i]) - 1
  for from = first, last, most do
    redis.call('HSET', key, unpack(ARGV, from, math.min(from + most - 1, last)))
  end
  first = last + 1
end
return 1
