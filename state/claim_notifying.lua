-- Take or prolong the lease of the one worker that notifies.
--
-- KEYS[1]  the hash of what targets were told
-- ARGV     who asks, and for how many milliseconds
-- Answers 2 when it was theirs already, 1 when it is theirs now, 0 while somebody else has it. The time is the server's own, so that the workers' clocks
-- do not matter; a lease that ends later than any can was written before that clock was set back, and does not hold.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local length = tonumber(ARGV[2])
local answer = 1
local lease = redis.call('HGET', KEYS[1], 'lease')
local found, stored = pcall(cjson.decode, lease or '')
if found and stored.holder == ARGV[1] then
  answer = 2
elseif found and now < stored['until'] and stored['until'] <= now + length then
  return 0
end
redis.call('HSET', KEYS[1], 'lease',
  '{"holder":' .. cjson.encode(ARGV[1]) .. ',"until":' .. string.format('%.0f', now + length) .. '}')
return answer
