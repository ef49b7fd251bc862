-- Move sources on, never back; nothing moves where the store has lost what it had acknowledged.
--
-- KEYS[1]  the hash of the progress
-- KEYS[2]  and the following ones: subjects' own hashes, each the last of some that were written since the last call
-- ARGV     the revisions that those hashes had at least; then for each source: its name, an offset that was
--          acknowledged, the offset it reached, the text to store; the last two are empty for one only looked at
-- Answers the offset that was stored of each source, 0 for none; -1 for all where a revision is gone.
--
-- What a server loses is the end of what was written to it: where the last write of some is there, all of them are.

for i = 2, #KEYS do
  if tonumber(redis.call('HGET', KEYS[i], 'rev') or '0') < tonumber(ARGV[i - 1]) then
    local gone = {}
    for at = #KEYS, #ARGV, 4 do
      gone[#gone + 1] = -1
    end
    return gone
  end
end

local stored = {}
local lost = false
local texts = {}
for at = #KEYS, #ARGV, 4 do
  local text = redis.call('HGET', KEYS[1], ARGV[at])
  local offset = text and tonumber(string.match(text, '"offset":(%d+)')) or 0
  stored[#stored + 1] = offset
  texts[#texts + 1] = text
  if offset < tonumber(ARGV[at + 1]) then
    lost = true
  end
end
if not lost then
  for at = #KEYS, #ARGV, 4 do
    local place = (at - #KEYS) / 4 + 1
    if ARGV[at + 2] ~= '' and (not texts[place] or tonumber(ARGV[at + 2]) > stored[place]) then
      redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 3])
    end
  end
end
return stored
