-- A node says where it stands, and hears where the log stands. Where the server is not the one that
-- began the term, the term is over: a window opens in which nodes bid with what they hold, the best
-- gives back what the server lacks, and then a new term begins. A log that names no snapshot is none:
-- nobody could begin from it.
local KEPT = 64          -- Lineage records.
local STALLED_MS = 2000  -- An elected node that was not heard of for so long is passed over.
local NEW_WINDOWS = 4    -- Windows to wait before a document begins from nothing.

local node, term, epoch, seq = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local bids, roster, new_epoch = ARGV[5] == '1', ARGV[6], ARGV[7]
local window_ms, lease_ms = tonumber(ARGV[8]), tonumber(ARGV[9])

local m = redis.call('HMGET', META, 'format', 'srv', 'state', 'lineage', 'seq', 'snap')
local format, state, lineage, snap = m[1], m[3], m[4] or '', m[6] or ''
local log_seq = tonumber(m[5] or '0')
if format and format ~= '1' then return {'format', format} end

local records = {}
for record in string.gmatch(lineage, '[^;]+') do records[#records + 1] = record end
local log_term, log_epoch = 0, ''
if #records > 0 then
  log_term, log_epoch = string.match(records[#records], '^(%d+) (%w+)')
  log_term = tonumber(log_term)
end

local now = now_ms()
redis.call('ZREMRANGEBYSCORE', NODES, '-inf', text(now))
-- The clock was set back: nobody has a lease as long as that.
redis.call('ZREMRANGEBYSCORE', NODES, '(' .. text(now + lease_ms), '+inf')
redis.call('ZADD', NODES, text(now + lease_ms), node)

-- Ahead in the very term that is open: the server lost the end of its log without a restart.
-- Or it has a document, and a new log has been begun with none.
local is_ahead = state == 'open'
  and ((epoch == log_epoch and seq > log_seq) or (bids and snap == ''))
if not is_ours(m[2]) or is_ahead then
  redis.call('DEL', BIDS)
  if snap == '' then
    local round = redis.call('HGET', META, 'round') or '0'
    redis.call('DEL', META, LOG)
    redis.call('HSET', META, 'round', round)
    records, lineage, log_seq, log_term, log_epoch = {}, '', 0, 0, ''
  end
  state = 'recovering'
  redis.call('HSET', META, 'format', '1', 'srv', replication_id(), 'state', state,
    'lineage', lineage, 'seq', text(log_seq), 'opened', text(now), 'elected', '')
end

local function is_better(a_term, a_seq, b_term, b_seq)
  return a_term > b_term or (a_term == b_term and a_seq > b_seq)
end

-- The best bid over what the log has, whether there is anything at all, and whether all have bid
-- that one of the bidders has seen of late.
local function count_bids()
  local flat = redis.call('HGETALL', BIDS)
  local bid, names = {}, {}
  for i = 1, #flat, 2 do
    bid[flat[i]] = flat[i + 1]
    names[#names + 1] = flat[i]
  end
  table.sort(names)
  local best, best_term, best_seq, is_known, is_whole = '', log_term, log_seq, false, true
  for _, name in ipairs(names) do
    local t, s, seen = string.match(bid[name], '^(%d+) (%d+) (.*)$')
    t, s = tonumber(t), tonumber(s)
    if is_better(t, s, best_term, best_seq) then best, best_term, best_seq = name, t, s end
    for other in string.gmatch(seen, '[^,]+') do
      is_known = true
      if not bid[other] then is_whole = false end
    end
  end
  return best, best_term > 0, is_known and is_whole
end

-- The elected node if it has something to give and is still at it; else ''.
local function still_elected()
  local e = redis.call('HMGET', META, 'elected', 'progress')
  local elected, progress = e[1], tonumber(e[2] or '0')
  if elected == '' then return '' end
  local t, s = string.match(redis.call('HGET', BIDS, elected) or '0 0', '^(%d+) (%d+)')
  if not is_better(tonumber(t), tonumber(s), log_term, log_seq) then return '' end
  if node == elected or now < progress then
    redis.call('HSET', META, 'progress', text(now))
  elseif now - progress > STALLED_MS then
    redis.call('HDEL', BIDS, elected)
    return ''
  end
  return elected
end

local function begin()
  log_term, log_epoch = log_term + 1, new_epoch
  records[#records + 1] = text(log_term) .. ' ' .. log_epoch .. ' ' .. text(log_seq)
  lineage = table.concat(records, ';', math.max(1, #records - KEPT + 1))
  state = 'open'
  redis.call('HSET', META, 'state', state, 'lineage', lineage, 'term', text(log_term),
    'epoch', log_epoch)
  redis.call('HDEL', META, 'opened', 'elected', 'progress')
  redis.call('DEL', BIDS)
end

local left, elected = 0, ''
if state == 'recovering' then
  redis.call('HSET', BIDS, node, bids and (ARGV[2] .. ' ' .. ARGV[4] .. ' ' .. roster) or '0 0 ')
  local opened = tonumber(redis.call('HGET', META, 'opened'))
  if now < opened then
    opened = now
    redis.call('HSET', META, 'opened', text(now))
  end
  elected = still_elected()
  local best, is_something, is_whole = count_bids()
  if not is_whole then
    left = math.max(0, opened + window_ms * (is_something and 1 or NEW_WINDOWS) - now)
  end
  if elected == '' and left == 0 then
    elected = best
    if best == '' then
      begin()
    else
      redis.call('HINCRBY', META, 'round', 1)
      redis.call('HSET', META, 'elected', best, 'progress', text(now))
    end
  end
end

-- Whether the log goes on right behind the node's entry. The term there is the log's, not what the
-- node takes for its term: that may be one that never came to anything.
local follows = 1
if seq < log_seq then
  term = 0
  for _, record in ipairs(records) do
    local number, since = string.match(record, '^(%d+) %w+ (%d+)')
    if tonumber(since) <= seq then term = tonumber(number) end
  end
  local next_one = redis.call('XRANGE', LOG, '(' .. id(term, seq), '+', 'COUNT', 1)[1]
  follows = 0
  if next_one then
    local next_seq = tonumber(string.match(next_one[1], '%-(%d+)$'))
    if next_seq - tonumber(next_one[2][4]) == seq then follows = 1 end
  end
end

return {state, lineage, log_seq, now, left, elected, tonumber(redis.call('HGET', META, 'round') or '0'),
  follows, snap, table.concat(redis.call('ZRANGE', NODES, 0, -1), ','),
  redis.call('MEMORY', 'USAGE', LOG) or 0}
