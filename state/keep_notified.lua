-- Keep what targets were told, if it is still for this worker to say.
--
-- KEYS[1]  the hash of what targets were told
-- ARGV     who asks, the number of fields to remove, these, and then names and values by turns
-- Answers 1 when kept, 0 when the lease is somebody else's: then nothing was. A lease that has run out is still its
-- holder's until another one takes it.

local lease = redis.call('HGET', KEYS[1], 'lease')
local found, stored = pcall(cjson.decode, lease or '')
if not found or stored.holder ~= ARGV[1] then
  return 0
end
local removed = tonumber(ARGV[2])
for at = 3, removed + 2 do
  redis.call('HDEL', KEYS[1], ARGV[at])
end
for at = removed + 3, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
end
return 1
