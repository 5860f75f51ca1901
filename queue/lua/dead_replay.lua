-- lk_dead_replay root by id...  ->  {outcome, state} per id
--
-- replayed: ready again with all its tries, its history kept. key-conflict: another job owns its idempotency key now.
-- wrong-state, not-found as in lk_cancel. Not allowed at OOM: it adds work.

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
  return job ~= nil and job[STATE] ~= CANCELLED
end

-- Staged as leaving the dead letters.
function lk.stage_undead(stage, ty, id)
  stage.dead_del[#stage.dead_del + 1] = id
  local own = lk.of_type(stage, ty)
  own.dead_del[#own.dead_del + 1] = id
end

local function replay_one(ctx, stage, by, id, job, claimed)
  if not job then
    return {id, 'not-found', ''}
  end
  if job[STATE] ~= DEAD then
    return {id, 'wrong-state', lk.state_of(ctx, id, job)}
  end
  local key = job[KEY]
  if (key ~= '' and claimed[key]) or key_taken(ctx, id, key) then
    return {id, 'key-conflict', 'dead'}
  end
  local ty = lk.type_of(ctx.policy, job[TYPE])
  lk.stage_undead(stage, ty, id)
  lk.stage_event(stage, 'replayed', id, ty, by)
  lk.remember(job, {job[ATTEMPTS], ctx.now, ctx.now, by, '', 0, ctx.policy.version, 'replay'})
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
  local claimed = {}
  return lk.by_id(keys, args, 2, function(ctx, stage, id, job)
    return replay_one(ctx, stage, lk.clip(args[1], 128), id, job, claimed)
  end)
end

redis.register_function{function_name = 'lk_dead_replay', callback = replay}
