-- lk_settle root identity settlements  ->  {now, policy version, one letter per settlement}
--
-- identity: msgpack {boot, name, pool, node}. settlements: msgpack list of {id, token, policy version, kind, ...}:
--   's' success {result} · 'r' retry {delay ms, spends, class, code, message} · 'x' dead {reason, spends, class, code, message}
--   'l' release {why} · 'z' snooze {delay ms, why};  spends: 't' try, 'c' crash, 'n' nothing.
-- Letters: 'd' recorded; 's' stale: the lease is another's or gone, nothing changed.
-- A lease that has expired but was not swept is still its holder's. Where a cancellation was asked for, everything but
-- a success ends the job as cancelled.

local OUTCOMES = {s = 'success', r = 'retry', x = 'dead', l = 'release', z = 'snooze'}
local REASONS = {PermanentError = true, TriesExhausted = true, CrashBudgetExhausted = true, GaveUp = true}

local function text(value, most)
  return lk.clip(lk.clean(type(value) == 'string' and value or ''), most)
end

-- A settlement with its fields named and bounded; nil when it makes no sense.
local function read_settlement(item)
  if type(item) ~= 'table' or type(item[1]) ~= 'string' or type(item[2]) ~= 'number' or not OUTCOMES[item[4]] then
    return nil
  end
  local kind = item[4]
  local word = {id = item[1], token = item[2], version = max(0, min(floor(tonumber(item[3]) or 0), 2 ^ 53)), kind = kind, spends = 'n'}
  if kind == 's' then
    word.result = type(item[5]) == 'string' and sub(item[5], 1, RESULT_MOST) or ''
  elseif kind == 'r' or kind == 'x' then
    word.spends, word.class, word.code, word.message = item[6], text(item[7], 16), text(item[8], 64),
      text(item[9], MESSAGE_LAST)
    word.delay = kind == 'r' and tonumber(item[5]) or 0
    word.reason = kind == 'x' and item[5] or nil
    if kind == 'x' and not REASONS[word.reason] then
      return nil
    end
  else
    word.delay = kind == 'z' and tonumber(item[5]) or 0
    word.class, word.code = 'transient', kind == 'z' and 'Snoozed' or 'Released'
    word.message = text(item[kind == 'z' and 6 or 5], MESSAGE_OLD)
  end
  word.delay = max(0, min(floor(word.delay or 0), lk.MAX_DELAY))
  return word
end

-- The history entry of the attempt that ends with this word.
local function attempt_of(ctx, rec, lease, who, word, outcome)
  local token, by = lease[L_TOKEN], who
  if lease[L_LOST_BY] then
    -- The sweeper speaks for the worker that lost the lease.
    token, by = lease[L_LOST_TOKEN], lk.read_identity(lease[L_LOST_BY]) or who
  end
  local entry = {rec[ATTEMPTS], lease[L_SINCE], ctx.now, by[2], by[4], token, word.version, outcome}
  if word.class then
    entry[9], entry[10], entry[11] = word.class, word.code, word.message
  end
  return entry
end

local function settle_one(ctx, stage, who, word, lease, rec, payload)
  local ty, kind = lk.type_of(ctx.policy, rec[TYPE]), word.kind
  local cancelled = lease[L_CANCEL] == 1 and kind ~= 's'
  local asked = rec[ATTEMPTS] == 0 and rec[DUE] > 0 and lk.due_of(rec)
  rec[ATTEMPTS] = rec[ATTEMPTS] + 1
  if word.spends == 't' then
    rec[TRIES] = rec[TRIES] + 1
  elseif word.spends == 'c' then
    rec[CRASHES] = rec[CRASHES] + 1
  end
  lk.remember(rec, attempt_of(ctx, rec, lease, who, word, cancelled and 'cancel' or OUTCOMES[kind]))
  lk.count(stage, 'a', ty, 1)
  lk.count(stage, 'b', ty, max(0, ctx.now - lease[L_SINCE]))
  if kind == 'r' or kind == 'x' then
    lk.count(stage, 'f', ty, 1)
  end
  if kind == 's' then
    rec[RESULT] = word.result
    lk.stage_finished(ctx, stage, ty, word.id, rec, payload, SUCCEEDED)
  elseif cancelled then
    lk.stage_finished(ctx, stage, ty, word.id, rec, payload, CANCELLED)
  elseif kind == 'x' then
    lk.stage_dead(ctx, stage, ty, word.id, rec, payload, word.reason)
  else
    -- A job that is handed back keeps its place; one that is held or retried stands by its new due time.
    local due = kind == 'l' and min(lk.due_of(rec), ctx.now) or ctx.now + word.delay
    -- The time a job was asked for goes with its first new due time, and age counts from there.
    rec[COUNTS_FROM] = asked or rec[COUNTS_FROM]
    lk.stage_waiting(ctx, stage, ty, word.id, rec, due)
    lk.push2(stage.record_set, word.id, lk.write_record(rec, payload))
  end
end

-- Stages all settlements; returns the letters. Reads leases and records in two commands.
function lk.settle_all(ctx, stage, identity, who, list)
  local letters, words, ids, seen = {}, {}, {}, {}
  for i = 1, #list do
    letters[i] = 's'
    local word = read_settlement(list[i])
    if word then
      word.at = i
      words[#words + 1] = word
      ids[#ids + 1] = word.id
    end
  end
  if not ids[1] then
    return concat(letters)
  end
  local leases = call('HMGET', ctx.keys.leases, unpack_list(ids))
  local records = call('HMGET', ctx.keys.jobs, unpack_list(ids))
  local damage = 0
  for i, word in ipairs(words) do
    local lease, holder = lk.read_lease(leases[i])
    if lease and not seen[word.id] and lk.holds(lease, holder, word.token, identity, who) then
      -- Only now: a stale word for the job says nothing about the ones after it.
      seen[word.id] = true
      local rec, payload = lk.read_record(records[i])
      lk.stage_unlease(stage, word.id, lk.type_of(ctx.policy, lease[L_TYPE]))
      if rec and rec[STATE] == LIVE then
        settle_one(ctx, stage, who, word, lease, rec, payload)
        letters[word.at] = 'd'
      else
        damage = damage + 1
      end
    end
  end
  lk.damaged(ctx, damage)
  return concat(letters)
end

-- The identity and list of a call; or nil, nil and an error reply.
function lk.read_worker_call(identity, blob, most)
  local who = lk.read_identity(identity or '')
  if not who then
    return nil, nil, lk.error('LKARGS', 'the identity must be msgpack {boot, name, pool, node}')
  end
  local list = (blob == nil or blob == '') and {} or lk.decode(blob)
  if not list then
    return nil, nil, lk.error('LKARGS', 'the list must be msgpack')
  elseif #list > most then
    return nil, nil, lk.error('LKLIMIT', fmt('at most %d entries a call, this one has %d', most, #list))
  end
  return who, list
end

local function settle(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  local who, list, wrong = lk.read_worker_call(args[1], args[2], lk.MAX_BATCH)
  if wrong then
    return wrong
  end
  local stage = lk.stage()
  local letters = lk.settle_all(ctx, stage, args[1], who, list)
  lk.commit(ctx, stage)
  lk.touch(ctx)
  return {ctx.now, ctx.policy.version, letters}
end

redis.register_function{function_name = 'lk_settle', callback = settle, flags = {'allow-oom'}}
