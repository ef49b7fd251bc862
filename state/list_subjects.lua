-- List subjects, in a way that is a write even where they are listed already: so replicas can be waited for.
--
-- KEYS[1]  the sorted set of all subjects
-- ARGV     the subjects, at most a few thousand

redis.call('ZREM', KEYS[1], unpack(ARGV))
for _, subject in ipairs(ARGV) do
  redis.call('ZADD', KEYS[1], 0, subject)
end
return #ARGV
