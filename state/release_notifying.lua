-- Give the lease of the one worker that notifies back, if it is this one's.
--
-- KEYS[1]  the hash of what targets were told
-- ARGV     who gives it back

local lease = redis.call('HGET', KEYS[1], 'lease')
local found, stored = pcall(cjson.decode, lease or '')
if found and stored.holder == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'lease')
  return 1
end
return 0
