-- Make a hash hold these fields and no others, in one step: no reader finds it empty in between.
--
-- KEYS[1]  the hash
-- ARGV     names and values by turns

-- Lua's stack ends at about 8000 values.
local most = 4000

redis.call('DEL', KEYS[1])
for from = 1, #ARGV, most do
  redis.call('HSET', KEYS[1], unpack(ARGV, from, math.min(from + most - 1, #ARGV)))
end
return 1
