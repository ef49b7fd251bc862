-- Move the clock on, never back.
--
-- KEYS[1]  the clock's hash
-- ARGV     milliseconds since the epoch, and the same as RFC 3339
-- Answers the milliseconds that the clock now shows.

local shown = tonumber(redis.call('HGET', KEYS[1], 'ms') or '-1')
if tonumber(ARGV[1]) <= shown then
  return shown
end
redis.call('HSET', KEYS[1], 'ms', ARGV[1], 'time', ARGV[2])
return tonumber(ARGV[1])
