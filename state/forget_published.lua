-- Take out of an outbox that answers were published, unless they were published again since that was read.
--
-- KEYS[1]  the outbox
-- ARGV     the field, and the revision that was told of

if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
