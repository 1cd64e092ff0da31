-- Name a snapshot whose pieces (the keys behind the first four) are there. Two stay, and the log
-- behind the older of them. Never trim by length: that could take what no snapshot has.
local DAY_MS = 24 * 3600 * 1000

local epoch, named = ARGV[1], ARGV[2]

local m = redis.call('HMGET', META, 'srv', 'state', 'epoch', 'seq', 'snap')
if not is_ours(m[1]) or m[2] ~= 'open' or m[3] ~= epoch then return {'attach', ''} end
local seq = tonumber(string.match(named, '^%w+ (%d+)'))
local newest, older = string.match(m[5] or '', '^([^;]+);?(.*)$')
if seq > tonumber(m[4]) or (newest and seq <= tonumber(string.match(newest, '^%w+ (%d+)'))) then
  return {'old', ''}
end
if not keep_pieces() then return {'missing', ''} end

if not newest then
  redis.call('HSET', META, 'snap', named)
  return {'ok', ''}
end
redis.call('HSET', META, 'snap', named .. ';' .. newest)
local kept_seq, kept_term = string.match(newest, '^%w+ (%d+) (%d+)')
kept_seq = tonumber(kept_seq)
redis.call('XTRIM', LOG, 'MINID', id(tonumber(kept_term), kept_seq + 1))
-- Numbers of nodes that are gone. Not before a day is over: a batch that was sent again on another
-- connection may still arrive on the first.
local day_ago = now_ms() - DAY_MS
local all = redis.call('HGETALL', META)
for i = 1, #all, 2 do
  local node = string.match(all[i], '^p:(.*)$')
  if node and tonumber(string.match(all[i + 1], '(%d+)$')) < day_ago
    and not redis.call('ZSCORE', NODES, node) then
    redis.call('HDEL', META, all[i])
  end
end
return {'ok', older}
