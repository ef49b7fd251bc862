-- Change the book of rules, if it still has the revision that the change was made from.
--
-- KEYS[1]  the book's hash
-- ARGV     that revision, how many fields are removed, their names, and names and values by turns
-- Answers 1 when changed, 0 when somebody else was faster.

if (redis.call('HGET', KEYS[1], '_revision') or '0') ~= ARGV[1] then
  return 0
end

-- Lua's stack ends at about 8000 values.
local most = 4000
local removed = tonumber(ARGV[2])
for from = 3, 2 + removed, most do
  redis.call('HDEL', KEYS[1], unpack(ARGV, from, math.min(from + most - 1, 2 + removed)))
end
for from = 3 + removed, #ARGV, most do
  redis.call('HSET', KEYS[1], unpack(ARGV, from, math.min(from + most - 1, #ARGV)))
end
return 1
