-- Make a subject what was exported of it, in one piece, if nobody has written it since it was looked at.
--
-- KEYS   the hashes that it has or is to have; the last one is the subject's own, which holds the revision
-- ARGV   the revision that was read ('0': not stored); then for each key how many arguments are its own, then those:
--        names and values by turns. A key without any is deleted.
-- Answers 1 when written, 0 when refused; a refused write has changed nothing.
--
-- What is too much is taken out after the rest was set, and the revision is set last: should a server that is full
-- refuse a command, nothing is gone, and the same can be repeated.

if (redis.call('HGET', KEYS[#KEYS], 'rev') or '0') ~= ARGV[1] then
  return 0
end

-- Lua's stack ends at about 8000 values, and an outbox can have more than that.
local most = 4000

local first = 2 + #KEYS
for i, key in ipairs(KEYS) do
  local last = first + tonumber(ARGV[1 + i]) - 1
  local kept = {}
  for at = first, last, 2 do
    kept[ARGV[at]] = true
  end
  local stored = redis.call('HKEYS', key)
  for from = first, last, most do
    redis.call('HSET', key, unpack(ARGV, from, math.min(from + most - 1, last)))
  end
  for _, name in ipairs(stored) do
    if not kept[name] then
      redis.call('HDEL', key, name)
    end
  end
  first = last + 1
end
return 1
