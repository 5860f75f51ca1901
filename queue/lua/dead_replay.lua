-- lk_dead_replay root by why meant id...  ->  {outcome, state} per id
-- lk_dead_edit root by why id payload  ->  the same, for one job that gets another payload
--
-- replayed: ready again with all its tries, its history kept, with who replayed it and why. Also what was discarded can be.
-- key-conflict: another job owns its idempotency key now. payload-too-large: as in lk_enqueue.
-- meant: as in lk_dead_ack. wrong-state, not-found as in lk_cancel, and wrong-state of what is not meant. Not allowed at OOM: it adds
-- work.
-- A new payload changes neither id nor idempotency key nor concurrency key. The payload that the job was enqueued with stays
-- readable in its record, however often it is edited.

-- Whether another job that counts owns the key.
local function key_taken(ctx, id, key)
  local entry = key ~= '' and call('HGET', ctx.keys.keys, key)
  if not entry then
    return false
  end
  local owner, expiry = string.match(entry, '^([^ ]+) ?(%d*)$')
  if owner == id then
    return false
  end
  if expiry and expiry ~= '' then
    return tonumber(expiry) > ctx.now
  end
  local job = lk.read_job(call('HGET', ctx.keys.jobs, owner or ''), call('HGET', ctx.keys.pasts, owner or ''))
  return job ~= nil and job[STATE] ~= CANCELLED and job[STATE] ~= DISCARDED
end

-- Long messages are for dead letters only.
local function shorten(job)
  for _, entry in ipairs(job[HISTORY]) do
    if type(entry) == 'table' and type(entry[11]) == 'string' then
      entry[11] = lk.clip(entry[11], MESSAGE_OLD)
    end
  end
end

local function replay_one(ctx, stage, word, code, id, job, claimed)
  if not job then
    return {id, 'not-found', ''}
  end
  if (job[STATE] ~= DEAD and job[STATE] ~= DISCARDED) or not lk.is_meant(word, job) then
    return {id, 'wrong-state', lk.state_of(ctx, id, job)}
  end
  local key = job[KEY]
  if (key ~= '' and claimed[key]) or key_taken(ctx, id, key) then
    return {id, 'key-conflict', STATE_NAMES[job[STATE]]}
  end
  local ty = lk.type_of(ctx.policy, job[TYPE])
  lk.stage_undead(ctx, stage, id, job)
  lk.stage_no_card(stage, id)
  lk.stage_event(stage, 'replayed', id, ty, lk.clip(word.by, 128))
  shorten(job)
  lk.remember_word(ctx, job, 'replay', code, word)
  job[TRIES], job[CRASHES], job[STATE], job[FINISHED], job[REASON] = 0, 0, LIVE, 0, ''
  job[COUNTS_FROM], job[DUE] = ctx.now, ctx.now
  lk.stage_waiting(ctx, stage, ty, id, job[PRIORITY], ctx.now)
  lk.push2(stage.past_set, id, lk.write_past(job))
  if key ~= '' then
    claimed[key] = true
    lk.push2(stage.key_set, key, id)
  end
  return {id, 'replayed', 'ready'}
end

local function replay(keys, args)
  local claimed, word, wrong = {}, lk.read_word(args)
  return wrong or lk.by_id(keys, args, 4, function(ctx, stage, id, job)
    return replay_one(ctx, stage, word, 'Replayed', id, job, claimed)
  end)
end

local function edit(keys, args)
  if #args ~= 4 then
    return lk.error('LKARGS', 'lk_dead_edit takes who asks, why, one id and a payload')
  end
  local payload = args[4]
  local word = {by = args[1], why = args[2] == '' and 'with another payload' or args[2]}
  return lk.by_id(keys, {args[1], args[2], args[3]}, 3, function(ctx, stage, id, job)
    if #payload > ctx.policy.max_payload then
      return {id, 'payload-too-large', job and lk.state_of(ctx, id, job) or ''}
    end
    local reply = replay_one(ctx, stage, word, 'PayloadReplaced', id, job, {})
    if reply[2] == 'replayed' then
      lk.push2(stage.record_set, id, lk.with_payload(call('HGET', ctx.keys.jobs, id), payload))
    end
    return reply
  end)
end

lk.register('lk_dead_replay', replay)
lk.register('lk_dead_edit', edit)
