-- Write a subject's revision once more, if it is still the one that was read: a write that replicas can be waited for.
--
-- KEYS[1]  the subject's own hash
-- ARGV[1]  the revision
-- Answers 1 when it is, 0 when it is not.

if redis.call('HGET', KEYS[1], 'rev') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'rev', ARGV[1])
return 1
