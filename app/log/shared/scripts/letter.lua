-- A letter for the box of a node (the fifth key), which takes it out. Nobody reads it after its time,
-- and none is left for a node that has gone. Letters are lost with the server.
local MOST, MOST_BYTES = 1000, 16 * 1024 * 1024
local BOX = KEYS[5]
local node, ms, letter = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local now = now_ms()
local lease = redis.call('ZSCORE', NODES, node)
if not lease or tonumber(lease) < now then return 'gone' end
local held = redis.call('MEMORY', 'USAGE', BOX) or 0
if redis.call('LLEN', BOX) >= MOST or (held > 0 and held + #letter > MOST_BYTES) then return 'full' end
redis.call('RPUSH', BOX, text(now + ms) .. ' ' .. letter)
redis.call('PEXPIRE', BOX, math.max(ms, redis.call('PTTL', BOX)))
return 'ok'
