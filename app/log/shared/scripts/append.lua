-- One batch, once. A repeated number gets the answer of the first time.
local node, no, epoch, count, body = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]

local m = redis.call('HMGET', META, 'srv', 'state', 'epoch', 'term', 'seq', 'time', 'p:' .. node)
if not is_ours(m[1]) or m[2] ~= 'open' or m[3] ~= epoch then return {'attach', 0, 0} end
if m[7] then
  local last_no, last_seq, last_ms = string.match(m[7], '^(%d+) (%d+) (%d+)$')
  if no <= tonumber(last_no) then
    return {no == tonumber(last_no) and 'ok' or 'old', tonumber(last_seq), tonumber(last_ms)}
  end
end

local seq = tonumber(m[5]) + count
-- The time of a log never goes back, whatever is done to the clock.
local time_ms = math.max(now_ms(), tonumber(m[6] or '0'))
add(id(tonumber(m[4]), seq), node .. ':' .. ARGV[2], ARGV[4], text(time_ms), epoch, body)
redis.call('HSET', META, 'seq', text(seq), 'time', text(time_ms),
  'p:' .. node, ARGV[2] .. ' ' .. text(seq) .. ' ' .. text(time_ms))
return {'ok', seq, time_ms}
