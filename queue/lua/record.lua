-- Jobs and leases as bytes.
--
-- A job is two values. Its record says what was enqueued and never changes: a msgpack array followed by the payload as it
-- came. Its past says what became of it since, and is absent for a job that only waits: so neither a claim nor a
-- settlement writes or even reads a payload. Fields that still have their default are left out from the end. Rust's
-- record.rs reads the same layouts.

-- Fields of a job in memory; the first seven are those of its record.
local VERSION, TYPE, ENQUEUED, PRIORITY, ASKED, KEY, META, STATE, DUE, TRIES, CRASHES, ATTEMPTS, COUNTS_FROM, HISTORY,
  DROPPED, FINISHED, REASON, RESULT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18
local FIELDS = 18

-- ASKED: due time asked for at the enqueue, in ms after it. DUE: the present due time, ms; 0 where it is still the one
-- asked for. COUNTS_FROM: time of the last replay, from which age counts anew.

-- Values of STATE. A live job is running when it has a lease, else scheduled until it is due, else ready: so claims
-- and promotions need not write it.
local LIVE, SUCCEEDED, DEAD, CANCELLED, DISCARDED = 0, 3, 4, 5, 6
local STATE_NAMES = {[0] = 'live', [3] = 'succeeded', [4] = 'dead', [5] = 'cancelled', [6] = 'discarded'}

-- History kept: the first attempts tell how it began, the last how it ended; those between are counted, and go before what
-- people decided.
local HISTORY_FIRST, HISTORY_LAST, HISTORY_MOST = 5, 5, 30
local DECISIONS = {acknowledge = true, discard = true, replay = true, cancel = true}
-- Bytes of message kept of an attempt that is no longer the last, and of the last.
local MESSAGE_OLD, MESSAGE_LAST, RESULT_MOST = 1024, 65536, 65536

-- The empty list that stands for fields which are not there; never changed.
local NONE = {}
local NO_PAST = {1, LIVE, 0, 0, 0, 0, 0, NONE, 0, 0, '', ''}

-- First byte of a record that has neither a due time of its own, nor a key, nor meta: a msgpack array of four.
local PLAIN = 148

-- A time or count that doubles hold exactly.
local function is_whole(value)
  return type(value) == 'number' and value >= 0 and value < 9007199254740992
end

-- The fields of a past; nil when the bytes are none.
local function read_past(raw)
  local ok, past = pcall(unpack_blob, raw)
  if not ok or type(past) ~= 'table' or past[1] ~= 1 or not STATE_NAMES[past[2]] then
    return nil
  end
  past[3], past[4], past[5], past[6] = past[3] or 0, past[4] or 0, past[5] or 0, past[6] or 0
  past[7], past[8], past[9], past[10] = past[7] or 0, past[8] or NONE, past[9] or 0, past[10] or 0
  past[11], past[12] = past[11] or '', past[12] or ''
  if not (is_whole(past[3]) and is_whole(past[4]) and is_whole(past[5]) and is_whole(past[6]) and is_whole(past[7])
    and is_whole(past[9]) and is_whole(past[10])) or (past[2] ~= LIVE and past[10] == 0) or type(past[8]) ~= 'table' or type(past[11]) ~= 'string'
    or type(past[12]) ~= 'string' then
    return nil
  end
  return past
end

-- The job of a record and a past (false: none yet), and where its payload begins; nil when either is damaged.
function lk.read_job(raw, past_raw)
  if not raw then
    return nil
  end
  local ok, at, rec = pcall(unpack_one, raw)
  if not ok or type(rec) ~= 'table' or rec[VERSION] ~= 1 or type(rec[TYPE]) ~= 'string' or not lk.is_utf8(rec[TYPE])
    or not (is_whole(rec[ENQUEUED]) and is_whole(rec[PRIORITY]) and is_whole(rec[ASKED] or 0))
    or type(rec[KEY] or '') ~= 'string' then
    return nil
  end
  local past = past_raw and read_past(past_raw) or (not past_raw and NO_PAST)
  if not past then
    return nil
  end
  return {
    1, rec[TYPE], rec[ENQUEUED], rec[PRIORITY], rec[ASKED] or 0, rec[KEY] or '', rec[META] or NONE,
    past[2], past[3], past[4], past[5], past[6], past[7], past[8], past[9], past[10], past[11], past[12],
  }, at == -1 and #raw + 1 or at + 1
end

-- A list without its defaults at the end, which are dropped beyond the first `least` fields.
local function trimmed(list, least)
  local last = #list
  while last > least do
    local value = list[last]
    if value ~= 0 and value ~= '' and not (type(value) == 'table' and next(value) == nil) then
      break
    end
    list[last] = nil
    last = last - 1
  end
  return list
end

-- The bytes of a new job's record, of which `job` holds the seven fields; it is used up by this.
function lk.write_record(job, payload)
  return pack(trimmed(job, PRIORITY)) .. payload
end

-- The bytes of a record with another payload. The payload that it came with stays in its header, in a list of one; so does
-- its key.
function lk.with_payload(raw, payload)
  local at, rec = unpack_one(raw)
  local first = rec[8] or {at == -1 and '' or sub(raw, at + 1)}
  return pack({
    1, rec[TYPE], rec[ENQUEUED], rec[PRIORITY], rec[ASKED] or 0, rec[KEY] or '', rec[META] or NONE, first,
  }) .. payload
end

-- The bytes of a past by its fields: {1, state, due, tries, crashes, attempts, counts from, history, dropped, finished,
-- reason, result}; they are used up by this.
function lk.write_past_fields(past)
  return pack(trimmed(past, 2))
end

-- The bytes of a job's past.
function lk.write_past(job)
  return lk.write_past_fields({1, unpack_list(job, STATE, FIELDS)})
end

-- The state in a past: its third byte, behind the head of a short array and the version.
function lk.state_in(past)
  return past and byte(past, 3) or LIVE
end

-- Whether the bytes are the record of a live job of the type. Costs less than reading it all.
function lk.is_live(ty, raw, past)
  return raw and sub(raw, 2, ty.stamp_end) == ty.stamp and (not past or byte(past, 3) == LIVE)
end

-- A time that there is not, which something else wrote, would keep it waiting for ever: then it is due at once.
function lk.due_of(job)
  local due = job[DUE] > 0 and job[DUE] or job[ENQUEUED] + job[ASKED]
  return due < lk.LATEST and due or 0
end

-- Where a ready job stands: by priority, then by due time. Claims let age outweigh priority, see order.lua.
function lk.ready_score(priority, due)
  return priority * lk.PRIORITY_STEP + due
end

function lk.state_of(ctx, id, job)
  if job[STATE] ~= LIVE then
    return STATE_NAMES[job[STATE]]
  end
  if call('HEXISTS', ctx.keys.leases, id) == 1 then
    return 'running'
  end
  return lk.waits_for_time(ctx, id, job) and 'scheduled' or 'ready'
end

-- Whether a live job without a lease is not due yet. After the clock went back a job may be in line before its time.
function lk.waits_for_time(ctx, id, job)
  return lk.due_of(job) > ctx.now and call('ZSCORE', lk.type_of(ctx.policy, job[TYPE]).ready, id) == false
end

-- The place in a full history of the entry that makes way for the next one.
local function spared(history)
  for i = HISTORY_FIRST + 1, #history - HISTORY_LAST do
    local entry = history[i]
    if type(entry) ~= 'table' or not DECISIONS[entry[8]] then
      return i
    end
  end
  return HISTORY_FIRST + 1
end

-- Adds a finished attempt: {number, started, ended, worker, node, token, policy version, outcome[, class, code, message]}.
-- `whole`: the message before it stays as long as it is, because it is still what the job ended by.
function lk.remember(job, entry, whole)
  local history = job[HISTORY]
  local count = #history
  if count == 0 then
    job[HISTORY] = {entry}
    return
  end
  local last = history[count]
  if type(last) == 'table' and type(last[11]) == 'string' and not whole then
    last[11] = lk.clip(last[11], MESSAGE_OLD)
  end
  if count >= HISTORY_MOST then
    table.remove(history, spared(history))
    job[DROPPED] = job[DROPPED] + 1
    count = count - 1
  end
  history[count + 1] = entry
end
