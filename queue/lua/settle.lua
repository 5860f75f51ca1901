-- lk_settle root identity settlements  ->  {now, policy version, one letter per job, refusals}
--
-- identity: msgpack {boot, name, pool, node}. settlements: msgpack list of {id or list of ids, token, policy version, kind, ...}:
--   's' success {result, key or list of keys, follow-ups: see follow_up.lua} · 'r' retry {delay ms, spends, class, code, message} · 'x' dead {reason, spends, class, code, message}
--   'l' release {why} · 'z' snooze {delay ms, why, holds: 'j' this job, 'k' its concurrency key, 'l' its lane};
--   spends: 't' try, 'c' crash, 'n' nothing. All but a success may end with a note (see notes.lua): 'r', 'x' as field 10, 'l' as 6, 'z' as 8.
-- A list of ids is for successes without a result, the common case: one word for all of them. key: the job's idempotency
-- key, where the caller knows it; the library looks it up otherwise.
-- Letters: 'd' recorded; 's' stale: the lease is another's or gone, nothing changed; 'f' a follow-up cannot be stored, nothing
-- changed: what is wrong with it stands in the list after the letters, one sentence per 'f'.
-- A lease that has expired but was not swept is still its holder's. Where a cancellation was asked for, everything but
-- a success ends the job as cancelled.

local OUTCOMES = {s = 'success', r = 'retry', x = 'dead', l = 'release', z = 'snooze'}
local NOTE_AT = {r = 10, x = 10, l = 6, z = 8}
local REASONS = {PermanentError = true, TriesExhausted = true, CrashBudgetExhausted = true, GaveUp = true}

local function text(value, most)
  return lk.clip(lk.clean(type(value) == 'string' and value or ''), most)
end

-- A settlement with its fields named and bounded; nil when it makes no sense.
local function read_settlement(item)
  if type(item) ~= 'table' or type(item[2]) ~= 'number' or not OUTCOMES[item[4]] then
    return nil
  end
  local kind = item[4]
  local word = {token = item[2], version = max(0, min(floor(tonumber(item[3]) or 0), 2 ^ 53)), kind = kind, spends = 'n'}
  if kind == 's' then
    word.result = type(item[5]) == 'string' and sub(item[5], 1, RESULT_MOST) or ''
    word.keys = type(item[6]) == 'table' and item[6] or {item[6]}
    word.follow_ups = type(item[7]) == 'string' and item[7] ~= '' and item[7] or nil
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
    word.holds = kind == 'z' and item[7] or 'j'
  end
  word.note = item[NOTE_AT[kind] or 0]
  word.delay = max(0, min(floor(word.delay or 0), lk.MAX_DELAY))
  return word
end

-- The words of a call, one per job that is named in one that makes sense: ids, words, place in the reply, place within the
-- word's list; and how many jobs were named in all.
local function read_words(list)
  local ids, words, at, nths, count = {}, {}, {}, {}, 0
  for i = 1, #list do
    local item = list[i]
    local word = read_settlement(item)
    local named = type(item) == 'table' and item[1]
    if type(named) ~= 'table' then
      named = {named}
    end
    for k = 1, max(1, #named) do
      count = count + 1
      if word and type(named[k]) == 'string' and (k == 1 or (word.kind == 's' and word.result == '')) then
        local n = #ids + 1
        ids[n], words[n], at[n], nths[n] = named[k], word, count, k
      end
    end
  end
  return ids, words, at, nths, count
end

-- The history entry of the attempt that ends with this word.
local function attempt_of(ctx, number, lease, who, word, outcome)
  local token, by = lease[L_TOKEN], who
  if lease[L_LOST_BY] then
    -- The sweeper speaks for the worker that lost the lease.
    token, by = lease[L_LOST_TOKEN], lk.read_identity(lease[L_LOST_BY]) or who
  end
  local entry = {number, lease[L_SINCE], ctx.now, by[2], by[4], token, word.version, outcome}
  entry[9], entry[10], entry[11] = word.class, word.code, word.message
  return entry
end

-- The first attempt succeeded: nothing of the job needs to be read, and all that share lease and word share the bytes.
local function succeed_first(ctx, who, word, lease)
  if word.past and word.past_lease == lease then
    return word.past
  end
  local entry = attempt_of(ctx, 1, lease, who, word, 'success')
  local past = {1, SUCCEEDED, 0, 0, 0, 1, 0, {entry}, 0, ctx.now, '', word.result}
  word.past, word.past_lease = lk.write_past_fields(past), lease
  return word.past
end

-- The key of the job goes on being taken, or is free, after a success. `key` is what the caller takes for it, `job` what was read
-- of it, if it was.
local function keep_key(ctx, stage, ty, id, lease, key, job)
  if not lease.keyed then
    return
  end
  if type(key) ~= 'string' or key == '' then
    job = job or lk.read_job(call('HGET', ctx.keys.jobs, id), false)
    key = job and job[KEY] or ''
  end
  if key ~= '' then
    lk.stage_keep_key(ctx, stage, ty, id, key)
  end
end

local function succeed(ctx, stage, ty, who, id, word, lease, past_raw, nth)
  local past, job
  if past_raw then
    job = lk.read_job(call('HGET', ctx.keys.jobs, id), past_raw)
    if not job or job[STATE] ~= LIVE then
      return false
    end
    job[ATTEMPTS] = job[ATTEMPTS] + 1
    lk.remember(job, attempt_of(ctx, job[ATTEMPTS], lease, who, word, 'success'))
    job[RESULT], job[STATE], job[FINISHED] = word.result, SUCCEEDED, ctx.now
    past = lk.write_past(job)
  else
    past = succeed_first(ctx, who, word, lease)
  end
  keep_key(ctx, stage, ty, id, lease, word.keys[nth], job)
  if lease.noted then
    lk.stage_forget_notes(stage, id)
  end
  lk.count(stage, 's', ty, 1)
  lk.stage_finished(ctx, stage, ty, id, past)
  return true
end

-- Anything but a success; false when the job cannot be read.
local function not_succeed(ctx, stage, ty, who, id, word, lease, past_raw)
  local raw, kind = call('HGET', ctx.keys.jobs, id), word.kind
  local job, payload = lk.read_job(raw, past_raw)
  if not job or job[STATE] ~= LIVE then
    return false
  end
  local cancelled = lease.cancelled_by
  job[ATTEMPTS] = job[ATTEMPTS] + 1
  if word.spends == 't' then
    job[TRIES] = job[TRIES] + 1
  elseif word.spends == 'c' then
    job[CRASHES] = job[CRASHES] + 1
  end
  if cancelled then
    -- What went wrong is most often that the handler was stopped.
    word.code = kind == 'l' and 'Cancelled' or word.code
    word.message = lk.clip('cancelled by ' .. cancelled .. (kind == 'l' and '' or ': ' .. word.message), MESSAGE_LAST)
  end
  lk.remember(job, attempt_of(ctx, job[ATTEMPTS], lease, who, word, cancelled and 'cancel' or OUTCOMES[kind]))
  if kind == 'r' or kind == 'x' then
    lk.count(stage, 'f', ty, 1)
  end
  if not cancelled and word.note then
    lk.stage_note(ctx, stage, id, word.note)
  end
  if cancelled then
    if lease.noted then
      lk.stage_forget_notes(stage, id)
    end
    lk.stage_cancelled(ctx, stage, ty, id, job, cancelled)
  elseif kind == 'x' then
    lk.stage_dead(ctx, stage, ty, id, job, word.reason)
    if ty.on_dead then
      ctx.deaths = ctx.deaths or {}
      ctx.deaths[#ctx.deaths + 1] = lk.on_dead(ctx, id, job, sub(raw, payload), ty, word)
    end
  else
    -- A job that is handed back keeps its place; one that is held or retried stands by its new due time.
    job[DUE] = kind == 'l' and min(lk.due_of(job), ctx.now) or ctx.now + word.delay
    lk.stage_waiting(ctx, stage, ty, id, job[PRIORITY], job[DUE])
    lk.push2(stage.past_set, id, lk.write_past(job))
  end
  return true
end

-- What the end of an attempt means for the gates of its lane.
local function tell_gates(ctx, ty, id, word)
  local lane = ty.lane
  if lane.concurrency or lane.circuit or ty.groups then
    ctx.freed = ctx.freed or {}
    ctx.freed[lane] = true
  end
  if word.holds == 'k' and ty.groups then
    lk.try(ctx, lk.hold_group, ty, id, word.delay)
  elseif word.holds == 'l' then
    lk.hold_lane(ctx, lane, word.delay)
  elseif word.kind == 's' then
    lk.circuit_success(ctx, lane)
  elseif word.class == 'permanent' then
    lk.circuit_permanent(ctx, lane, id)
  elseif word.spends == 't' then
    lk.circuit_failure(ctx, lane, id)
  end
end

-- Stages all settlements; returns the letters. Reads leases and pasts in two commands.
function lk.settle_all(ctx, stage, who, list)
  local ids, words, at, nths, count = read_words(list)
  local letters, seen, damage, brought, refusals, ends = {}, {}, 0, {ids = {}, keys = {}}, {}, {}
  for i = 1, count do
    letters[i] = 's'
  end
  if not ids[1] then
    return concat(letters), refusals
  end
  local leases = call('HMGET', ctx.keys.leases, unpack_list(ids))
  local pasts = call('HMGET', ctx.keys.pasts, unpack_list(ids))
  for i = 1, #ids do
    local id, word = ids[i], words[i]
    local lease = lk.read_lease(leases[i])
    if lease and not seen[id] and lk.holds(lease, word.token, who) then
      -- Only now: a stale word for the job says nothing about the ones after it.
      seen[id] = true
      local ty = lk.type_of(ctx.policy, lease[L_TYPE])
      local settle = word.kind == 's' and succeed or not_succeed
      local specs, wrong
      if word.follow_ups then
        specs, wrong = lk.read_follow_ups(ctx, word.follow_ups, brought, ty.key_for == 0 and id)
      end
      if wrong then
        letters[at[i]] = 'f'
        refusals[#refusals + 1] = wrong
      elseif settle(ctx, stage, ty, who, id, word, lease, pasts[i], nths[i]) then
        lk.count(stage, 'a', ty, 1)
        lk.count(stage, 'b', ty, max(0, ctx.now - lease[L_SINCE]))
        letters[at[i]] = 'd'
        if ty.lane then
          ends[#ends + 1] = {ty, id, word}
        end
        if specs then
          lk.note_brought(brought, specs, id, ty)
        end
      else
        damage = damage + 1
        lk.tell_damaged(ctx, id, ty, call('HGET', ctx.keys.jobs, id), pasts[i])
      end
      if not wrong then
        lk.stage_unlease(stage, id, ty)
      end
    end
  end
  lk.damaged(ctx, damage)
  ctx.brought, ctx.ends = brought, ends
  for _, spec in ipairs(ctx.deaths or NONE) do
    brought[#brought + 1] = spec
  end
  return concat(letters), refusals
end

-- Writes what the settlements staged but for its counters, and the jobs that they bring. Where those could not be put in line it
-- fails while nothing is written: an end brings its jobs along.
function lk.commit_settled(ctx, stage)
  local places = {}
  for i, spec in ipairs(ctx.brought or NONE) do
    spec.at, places[i] = i, spec.ty
  end
  lk.require_places(ctx, places)
  for _, ended in ipairs(ctx.ends or NONE) do
    tell_gates(ctx, unpack_list(ended))
  end
  lk.commit_jobs(ctx, stage)
  if places[1] then
    local bringing = lk.stage()
    local replies = {}
    lk.admit(ctx, bringing, ctx.brought, replies)
    lk.commit_jobs(ctx, bringing)
    lk.commit_counts(ctx, bringing)
    lk.tell_brought(ctx, replies)
  end
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
  end
  local entries = #list
  for i = 1, min(entries, most) do
    local named = type(list[i]) == 'table' and list[i][1]
    entries = entries + (type(named) == 'table' and max(0, #named - 1) or 0)
  end
  if entries > most then
    return nil, nil, lk.error('LKLIMIT', fmt('at most %d entries a call, this one has %d', most, entries))
  end
  return who, list
end

local function settle(keys, args)
  local ctx, failure = lk.open(keys, true)
  if failure then
    return failure
  end
  local who, list, wrong = lk.read_worker_call(args[1], args[2], lk.MAX_BATCH)
  wrong = wrong or lk.too_many_follow_ups(list)
  if wrong then
    return wrong
  end
  lk.require_leases(ctx)
  local stage = lk.stage()
  local letters, refusals = lk.settle_all(ctx, stage, who, list)
  lk.commit_settled(ctx, stage)
  lk.commit_counts(ctx, stage)
  lk.try(ctx, lk.wake_for_room)
  lk.touch(ctx)
  return {ctx.now, ctx.policy.version, letters, refusals}
end

lk.register('lk_settle', settle, {'allow-oom'})
