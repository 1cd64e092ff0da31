-- What every script begins with. Keys, arguments and replies: __init__.py.
local META, LOG, NODES, BIDS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

-- A primary gets a new one whenever it may hold another history: promotion, restart, restore.
local function replication_id()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
    or error({err = 'NOFENCE this server does not tell its replication id'})
end

local function now_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- Lua would write 1e+15.
local function text(number)
  return string.format('%.0f', number)
end

local function id(term, seq)
  return text(term) .. '-' .. text(seq)
end

local function add(entry_id, nonce, count, time_ms, epoch, body)
  redis.call('XADD', LOG, entry_id, 'n', nonce, 'c', count, 't', time_ms, 'e', epoch, 'b', body)
end

-- Whether all pieces of the snapshot are there; if so they stay.
local function keep_pieces()
  for i = 5, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 0 then return false end
  end
  for i = 5, #KEYS do redis.call('PERSIST', KEYS[i]) end
  return true
end

-- Whether this server, in this run, opened the term that it has.
local function is_ours(srv)
  return srv == replication_id()
end
