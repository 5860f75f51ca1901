-- What every transition stands on: standard functions, limits, keys, time.
--
-- Redis lets a library see nothing but `redis` while it loads, so standard functions are bound on the first call
-- (`lk.boot`). Everything lives in the one table `lk`, because all files share one Lua chunk and its limit on locals.

local lk = {}
local call, floor, min, max, fmt, sub, byte, find, concat, unpack_list
local pack, unpack_one, unpack_blob, json

-- Limits of one call. Redis refuses Lua's unpack beyond ~8000 values, hence batches well under it.
lk.MAX_PAIRS = 200
lk.MAX_BYTES = 1048576
lk.MAX_BATCH = 200
lk.MAX_HELD = 1000
lk.CLAIM_BYTES = 4194304
lk.PROMOTE = 200
lk.WAKE_CAP = 64
-- Shortest time between two wake tokens that vain claims put back in a lane, ms.
lk.PUT_BACK = 500
-- Most jobs of a type and call that are handed to a worker that waits: with more, claims are cheaper.
lk.HAND_OVER = 8
-- Shortest time between two messages that tell the operator of jobs in a lane whose workers asked for jobs within ASKED, ms.
lk.TELL, lk.ASKED = 100, 1000
-- Old leases for which the old length stays in force after the policy shortened it.
lk.LEASE_GRACE = 2
-- Orders jobs by priority first, then by due time: ms since the epoch stay below 1e13 until the year 2286.
lk.PRIORITY_STEP = 1e13
-- No time is as late: what stands at such a one, something else put there.
lk.LATEST = lk.PRIORITY_STEP
-- Bounds of what one level of priority is worth in waiting, ms.
lk.STEP_LEAST, lk.STEP_MOST = 600000, 3600000
-- Longest delay that is accepted: ten years.
lk.MAX_DELAY = 315360000000

local ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
-- All pairs of digits of Crockford's base 32, so that an id costs few lookups.
local digits2 = {}

-- Binds what the library uses; every call does it first, and the first one does it for all.
function lk.boot()
  if lk.booted then
    return
  end
  call, floor, min, max = redis.call, math.floor, math.min, math.max
  fmt, sub, byte, find = string.format, string.sub, string.byte, string.find
  concat, unpack_list = table.concat, unpack
  pack, unpack_one, unpack_blob = cmsgpack.pack, cmsgpack.unpack_one, cmsgpack.unpack
  -- An instance of our own: settings of the shared one would reach into other libraries.
  json = cjson.new()
  json.decode_invalid_numbers(false)
  for high = 1, 32 do
    for low = 1, 32 do
      digits2[#digits2 + 1] = sub(ALPHABET, high, high) .. sub(ALPHABET, low, low)
    end
  end
  lk.booted = true
end

-- The exact decimal digits of an integer; `..` would round beyond 14 of them.
function lk.digits(n)
  return fmt('%.0f', n)
end

-- From here on a Lua number and the next one may be the same.
lk.NOT_WHOLE = 2 ^ 53

-- The integer from 0 on, and below that, which a text says; nil for anything else: no call of ours wrote it, and no client could be
-- told it.
function lk.whole(text)
  local n = tonumber(text)
  return n and n >= 0 and n < lk.NOT_WHOLE and n % 1 == 0 and n or nil
end

function lk.error(code, sentence)
  return redis.error_reply(code .. ' ' .. sentence)
end

-- The refusal of keys that are not exactly one root. Asked before `lk.boot` too.
function lk.wrong_root(keys)
  if #keys ~= 1 or not string.find(keys[1], '^lk:{[^{}]+}$') then
    return lk.error('LKARGS', 'give exactly one key, the root of the queue: lk:{<namespace>/<queue>}')
  end
end

-- Every fixed key of a queue and the prefixes of the others. No other place spells a key.
function lk.keys_of(root)
  return {
    root = root,
    meta = root .. ':m', -- hash: v policy version, a last activity, o end of the last outage, t last token, s salt, x damage,
    -- xt time at which a failing key was told last, n notes were written, back time at which the clock went back (until sweeps saw to it), sz mean bytes of a
    -- record, lp longer lease before this one and lu until when, b:<lane> last token put back,
    -- rc rb rn rd of looks at all jobs (repair.lua), wd wx wi wt of walks through indexes (leftovers.lua)
    policy = root .. ':p', -- string: the policy as JSON
    jobs = root .. ':j', -- hash: id -> record
    pasts = root .. ':a', -- hash: id -> past, for jobs to which something has happened
    leases = root .. ':l', -- hash: id -> lease
    running = root .. ':r', -- zset: id by expiry of its lease
    next = root .. ':n', -- zset: type by the due time of its first scheduled job
    keys = root .. ':k', -- hash: idempotency key -> owner id, and expiry once that succeeded
    keys_by_expiry = root .. ':kx', -- zset: idempotency key by expiry
    dead = root .. ':d', -- zset: id by time of death
    discarded = root .. ':dx', -- zset: id by time of the discard
    cards = root .. ':dc', -- hash: id -> card, for dead and discarded jobs, see dead_letter.lua
    counters = root .. ':c', -- hash: monotonic counters and gauges, `<letter>:<type>`
    gates = root .. ':g', -- hash: what lanes' gates remember, see gates.lua
    types = root .. ':t', -- set: job types that may have keys
    workers = root .. ':h', -- hash: boot -> heartbeat
    events = root .. ':e', -- stream: what is worth a look of a person, see events.lua
    notes = root .. ':o', -- hash: p<id> -> progress, c<id> -> checkpoint, see notes.lua
    wake = root .. ':wake', -- channel
    calls_of = root .. ':x:', -- channel per boot of a worker: a job of its is to be stopped, or was handed to it
    group_of = root .. ':yg', -- hash: id -> group, for jobs of types with a concurrency key (see groups.lua)
    groups = root .. ':y', -- what there is per type and group
    ready_of = root .. ':q:', -- zset per type: id by priority and due time
    scheduled_of = root .. ':s:', -- zset per type: id by due time and priority
    finished_of = root .. ':f:', -- zset per type: id by end (succeeded, cancelled)
    dead_of = root .. ':d:', -- zset per type: id by time of death
    discarded_of = root .. ':dx:', -- zset per type: id by time of the discard
    wake_of = root .. ':w:', -- list per lane: wake tokens
  }
end

-- Base 32 of a non-negative integer in `chars` digits (even).
local function base32(n, chars)
  local out = ''
  for _ = 1, chars / 2 do
    local rest = n % 1024
    out = digits2[rest + 1] .. out
    n = (n - rest) / 1024
  end
  return out
end
lk.base32 = base32

-- What the queue's ids end in, where the text is that.
function lk.read_salt(text)
  return text and string.match(text, '^%w%w%w$')
end

-- A new job id, 14 characters that sort by time: 9 for ms, 2 for µs, 3 of the queue's salt. Unique by the server's
-- clock; callers check it against the records, so that even a clock that went back cannot repeat one.
function lk.new_id(ctx)
  local us = max(ctx.us, ctx.last_us + 1)
  ctx.last_us = us
  local rest = us % 1000
  local ms = (us - rest) / 1000
  if ms ~= ctx.id_ms then
    ctx.id_ms = ms
    ctx.id_prefix = sub(base32(ms, 10), 2)
  end
  return ctx.id_prefix .. digits2[rest + 1] .. ctx.salt
end

-- True when the bytes are well-formed UTF-8.
function lk.is_utf8(s)
  local at = find(s, '[\128-\255]')
  if not at then
    return true
  end
  local len = #s
  while at <= len do
    local a, b, c, d = byte(s, at, at + 3)
    if a < 128 then
      at = at + 1
    elseif a >= 194 and a <= 223 and b and b >= 128 and b <= 191 then
      at = at + 2
    elseif a >= 224 and a <= 239 and c and c >= 128 and c <= 191 and b >= (a == 224 and 160 or 128)
      and b <= (a == 237 and 159 or 191) then
      at = at + 3
    elseif a >= 240 and a <= 244 and d and d >= 128 and d <= 191 and c >= 128 and c <= 191
      and b >= (a == 240 and 144 or 128) and b <= (a == 244 and 143 or 191) then
      at = at + 4
    else
      return false
    end
  end
  return true
end

-- Whether any client can be told the id: lk_enqueue takes printable ASCII.
function lk.is_id(id)
  return not find(id, '[^\33-\126]')
end

-- A text as it may be stored: bytes that are not UTF-8 become question marks, because clients refuse them.
function lk.clean(s)
  if lk.is_utf8(s) then
    return s
  end
  return (string.gsub(s, '[\128-\255]', '?'))
end

-- The first `limit` bytes of a text, cut between characters.
function lk.clip(s, limit)
  if #s <= limit then
    return s
  end
  while limit > 0 do
    local next_byte = byte(s, limit + 1)
    if next_byte < 128 or next_byte >= 192 then
      break
    end
    limit = limit - 1
  end
  return sub(s, 1, limit)
end

-- Whether a text stands before another as Redis sorts members: by bytes. `<` would follow the server's locale.
function lk.before(a, b)
  for i = 1, min(#a, #b) do
    local x, y = byte(a, i), byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

-- Whether a text is JSON, and what it says or else what is wrong. cjson ends at a NUL, whatever follows.
function lk.from_json(text)
  if find(text, '\0', 1, true) then
    return false, 'it has a NUL byte'
  end
  return pcall(json.decode, text)
end

-- `unpack` for msgpack that came from a client: nil when it is not a table.
function lk.decode(blob)
  local ok, value = pcall(unpack_blob, blob)
  if ok and type(value) == 'table' then
    return value
  end
  return nil
end
