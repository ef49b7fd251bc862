-- Move sources on, never back; nothing moves where the store has lost what it had acknowledged.
--
-- KEYS[1]  the hash of the progress
-- ARGV     for each source: its name, an offset that was acknowledged, the offset it reached, the text to store; the
--          last two are empty for a source that is only looked at
-- Answers the offset that was stored of each source, 0 for none.

local stored = {}
local lost = false
local texts = {}
for at = 1, #ARGV, 4 do
  local text = redis.call('HGET', KEYS[1], ARGV[at])
  local offset = text and tonumber(string.match(text, '"offset":(%d+)')) or 0
  stored[#stored + 1] = offset
  texts[#texts + 1] = text
  if offset < tonumber(ARGV[at + 1]) then
    lost = true
  end
end
if not lost then
  for at = 1, #ARGV, 4 do
    local place = (at + 3) / 4
    if ARGV[at + 2] ~= '' and (not texts[place] or tonumber(ARGV[at + 2]) > stored[place]) then
      redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 3])
    end
  end
end
return stored
