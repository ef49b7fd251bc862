-- Take subjects out of those that may have open alerts, unless somebody has said again since that they may.
--
-- KEYS[1]  the sorted set of these subjects
-- ARGV     subjects and their scores by turns, at most a few thousand
-- Answers how many were taken out.

local forgotten = 0
for at = 1, #ARGV, 2 do
  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[at]) or '-1') == tonumber(ARGV[at + 1]) then
    forgotten = forgotten + redis.call('ZREM', KEYS[1], ARGV[at])
  end
end
return forgotten
