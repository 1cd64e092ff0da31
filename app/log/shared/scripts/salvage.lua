-- The elected node gives what the server lacks: the entries behind the server's last one, or, where
-- that one is not in the node's log, a whole log in place of the server's.
local node, round, replaces, base = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4])
local lineage, seq, snap = ARGV[5], tonumber(ARGV[6]), ARGV[7]

local m = redis.call('HMGET', META, 'srv', 'state', 'elected', 'round', 'seq', 'time')
if not is_ours(m[1]) or m[2] ~= 'recovering' or m[3] ~= node or m[4] ~= round then
  return {'attach', 0}
end
if replaces then
  if not keep_pieces() then return {'missing', 0} end
  redis.call('DEL', LOG)
  for _, field in ipairs(redis.call('HKEYS', META)) do
    if string.sub(field, 1, 2) == 'p:' then redis.call('HDEL', META, field) end
  end
  redis.call('HSET', META, 'snap', snap)
elseif tonumber(m[5]) ~= base then
  return {'attach', tonumber(m[5])}
end

local time_ms = tonumber(m[6] or '0')
for i = 8, #ARGV, 6 do
  add(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
  time_ms = math.max(time_ms, tonumber(ARGV[i + 3]))
end
redis.call('HSET', META, 'seq', text(seq), 'lineage', lineage, 'time', text(time_ms),
  'progress', text(now_ms()))
return {'ok', seq}
