-- Records and leases as bytes.
--
-- A record is a msgpack array followed by the payload as it came. Fields that still have their default are left out
-- from the end, so a waiting job costs about twenty bytes beside its payload. Rust's record.rs reads the same layout.

local VERSION, TYPE, ENQUEUED, PRIORITY, DUE, KEY, META, TRIES, CRASHES, ATTEMPTS, COUNTS_FROM, HISTORY, DROPPED, STATE,
  FINISHED, REASON, RESULT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17

-- COUNTS_FROM: from when age counts, where not from the enqueue: the last replay, or the due time a delayed job was asked
-- for, once that is no longer in DUE.

-- Values of STATE. A live job is running when it has a lease, else scheduled until it is due, else ready: so claims
-- and promotions need not rewrite records.
local LIVE, SUCCEEDED, DEAD, CANCELLED = 0, 3, 4, 5
local STATE_NAMES = {[3] = 'succeeded', [4] = 'dead', [5] = 'cancelled'}

-- History kept: the first attempts tell how it began, the last how it ended; those between are counted.
local HISTORY_FIRST, HISTORY_MOST = 5, 30
-- Bytes of message kept of an attempt that is no longer the last, and of the last.
local MESSAGE_OLD, MESSAGE_LAST, RESULT_MOST = 1024, 65536, 65536

-- The empty list that stands for fields which are not there; never changed.
local NONE = {}

-- Fields of a lease; the identity blob of its holder follows the array.
local L_TOKEN, L_SINCE, L_TYPE, L_CANCEL, L_LOST_TOKEN, L_LOST_BY = 1, 2, 3, 4, 5, 6

-- The record's header with every field and its payload; nil when the bytes are no record.
function lk.read_record(raw)
  if not raw then
    return nil
  end
  local ok, at, rec = pcall(unpack_one, raw)
  if not ok or type(rec) ~= 'table' or rec[VERSION] ~= 1 or type(rec[TYPE]) ~= 'string'
    or type(rec[ENQUEUED]) ~= 'number' or type(rec[PRIORITY]) ~= 'number' then
    return nil
  end
  -- Made anew rather than filled up: growing a table field by field costs several times as much.
  local full = {
    1, rec[TYPE], rec[ENQUEUED], rec[PRIORITY], rec[DUE] or 0, rec[KEY] or '', rec[META] or NONE, rec[TRIES] or 0,
    rec[CRASHES] or 0, rec[ATTEMPTS] or 0, rec[COUNTS_FROM] or 0, rec[HISTORY] or NONE, rec[DROPPED] or 0,
    rec[STATE] or LIVE, rec[FINISHED] or 0, rec[REASON] or '', rec[RESULT] or '',
  }
  if type(full[HISTORY]) ~= 'table' or type(full[KEY]) ~= 'string' or type(full[STATE]) ~= 'number'
    or type(full[DUE]) ~= 'number' or type(full[ATTEMPTS]) ~= 'number' then
    return nil
  end
  return full, at == -1 and '' or sub(raw, at + 1)
end

-- The state in a record; nil when the bytes are none.
function lk.state_in(raw)
  local ok, _, rec = pcall(unpack_one, raw or '')
  if ok and type(rec) == 'table' and rec[VERSION] == 1 then
    return rec[STATE] or LIVE
  end
end

-- The type of a live job's record; nil when the bytes are no record or it has ended. Costs less than reading it all.
function lk.live_type(raw)
  if not raw then
    return nil
  end
  local ok, _, rec = pcall(unpack_one, raw)
  if not ok or type(rec) ~= 'table' or rec[VERSION] ~= 1 or (rec[STATE] or LIVE) ~= LIVE
    or type(rec[ENQUEUED]) ~= 'number' or type(rec[PRIORITY]) ~= 'number' then
    return nil
  end
  return rec[TYPE]
end

-- The bytes of a record.
function lk.write_record(rec, payload)
  local last = #rec
  while last > PRIORITY do
    local value = rec[last]
    if value ~= 0 and value ~= '' and not (type(value) == 'table' and next(value) == nil) then
      break
    end
    rec[last] = nil
    last = last - 1
  end
  return pack(rec) .. payload
end

function lk.due_of(rec)
  return rec[ENQUEUED] + rec[DUE]
end

-- Where a ready job stands: by priority, then by due time.
function lk.ready_score(rec, due)
  return rec[PRIORITY] * lk.PRIORITY_STEP + due
end

function lk.state_of(ctx, id, rec)
  if rec[STATE] ~= LIVE then
    return STATE_NAMES[rec[STATE]] or 'dead'
  end
  if call('HEXISTS', ctx.keys.leases, id) == 1 then
    return 'running'
  end
  return lk.due_of(rec) > ctx.now and 'scheduled' or 'ready'
end

-- Adds a finished attempt: {number, started, ended, worker, node, token, policy version, outcome[, class, code, message]}.
function lk.remember(rec, entry)
  local history = rec[HISTORY]
  local count = #history
  if count == 0 then
    rec[HISTORY] = {entry}
    return
  end
  local last = history[count]
  if last and last[11] then
    last[11] = lk.clip(last[11], MESSAGE_OLD)
  end
  if count >= HISTORY_MOST then
    table.remove(history, HISTORY_FIRST + 1)
    rec[DROPPED] = rec[DROPPED] + 1
    count = count - 1
  end
  history[count + 1] = entry
end

-- A lease and the identity of its holder; nil when the bytes are none.
function lk.read_lease(raw)
  if not raw then
    return nil
  end
  local ok, at, lease = pcall(unpack_one, raw)
  if not ok or at == -1 or type(lease) ~= 'table' or type(lease[L_TOKEN]) ~= 'number'
    or type(lease[L_TYPE]) ~= 'string' or type(lease[L_SINCE]) ~= 'number' then
    return nil
  end
  return lease, sub(raw, at + 1)
end

function lk.write_lease(lease, identity)
  return pack(lease) .. identity
end

-- The parts of an identity blob {boot, name, pool, node}; nil when it is none.
function lk.read_identity(blob)
  local who = lk.decode(blob)
  if who and type(who[1]) == 'string' and #who[1] > 0 and type(who[2]) == 'string' and type(who[3]) == 'string'
    and type(who[4]) == 'string' and lk.is_utf8(concat(who, ' ', 1, 4)) then
    return who
  end
  return nil
end

-- Whether the lease belongs to the caller: same token, same boot of the same worker.
function lk.holds(lease, holder, token, identity, who)
  if lease[L_TOKEN] ~= token then
    return false
  end
  if holder == identity then
    return true
  end
  local other = lk.read_identity(holder)
  return other ~= nil and other[1] == who[1]
end
