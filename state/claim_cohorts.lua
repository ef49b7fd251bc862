-- Claim the next refresh of the cohorts, if it is due.
--
-- KEYS[1]  the cohorts' hash
-- ARGV     now and the next due time in milliseconds since the epoch, now as RFC 3339, and by how many milliseconds a
--          due time can lie ahead that no wrong clock has written
-- Answers 1 when claimed, 0 when it is not due or somebody else was faster.

local due = tonumber(redis.call('HGET', KEYS[1], 'due_ms') or '-1')
local now = tonumber(ARGV[1])
if now < due and due <= now + tonumber(ARGV[4]) then
  return 0
end
redis.call('HSET', KEYS[1], 'due_ms', ARGV[2], 'refreshed', ARGV[3])
return 1
