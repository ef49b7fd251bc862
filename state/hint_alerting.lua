-- Say that subjects may have alerts that are open.
--
-- KEYS[1]  the sorted set of these subjects
-- ARGV     the time in milliseconds, then the subjects, at most a few thousand
-- Each score becomes greater than it was, whatever the time: who saw the old one cannot take the subject out any more.

for at = 2, #ARGV do
  local known = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[at]) or '-1')
  redis.call('ZADD', KEYS[1], string.format('%.0f', math.max(tonumber(ARGV[1]), known + 1)), ARGV[at])
end
return #ARGV - 1
