-- What people say of dead letters, kept in the job's history with who, when and why.
--
-- lk_dead_ack root by why id...  ->  {outcome, state} per id
--   acknowledged: somebody saw it. It stays a dead letter, keeps its key and is never trimmed.
-- lk_dead_discard root by why id...  ->  {outcome, state} per id
--   discarded: it will not be replayed. It leaves the dead letters and frees its key; record, payload and history stay, for
--   ever or as long as its type's `dead.keepReviewedFor` says. A replay by its id takes it back.
-- wrong-state: it is no dead letter, or was acknowledged (discarded) before. An entry whose record is missing or damaged is
-- removed by a discard, and answers not-found.

-- Remembers what somebody decided about a dead job.
function lk.remember_word(ctx, job, outcome, code, by, why)
  local entry = {job[ATTEMPTS], ctx.now, ctx.now, lk.clip(by, 128), '', 0, ctx.policy.version, outcome}
  if why ~= '' then
    entry[9], entry[10], entry[11] = 'transient', code, lk.clip(why, MESSAGE_OLD)
  end
  lk.remember(job, entry, true)
end

local function ack_one(ctx, stage, by, why, id, job)
  if not job then
    return {id, 'not-found', ''}
  end
  if job[STATE] ~= DEAD or lk.is_acknowledged(job) then
    return {id, 'wrong-state', lk.state_of(ctx, id, job)}
  end
  lk.remember_word(ctx, job, 'acknowledge', 'Acknowledged', by, why)
  lk.push2(stage.past_set, id, lk.write_past(job))
  lk.stage_card(stage, id, job)
  lk.stage_event(stage, 'acknowledged', id, lk.type_of(ctx.policy, job[TYPE]), lk.clip(by, 128))
  return {id, 'acknowledged', 'dead'}
end

local function discard_one(ctx, stage, by, why, id, job)
  if not job then
    lk.forget_letters(ctx, {id})
    return {id, 'not-found', ''}
  end
  if job[STATE] ~= DEAD then
    return {id, 'wrong-state', lk.state_of(ctx, id, job)}
  end
  lk.stage_undead(ctx, stage, id, job)
  lk.stage_free_key(stage, id, job[KEY])
  lk.remember_word(ctx, job, 'discard', 'Discarded', by, why)
  job[STATE], job[FINISHED] = DISCARDED, ctx.now
  lk.push2(stage.past_set, id, lk.write_past(job))
  lk.stage_discarded(ctx, stage, id, job)
  lk.stage_event(stage, 'discarded', id, lk.type_of(ctx.policy, job[TYPE]), lk.clip(by, 128))
  return {id, 'discarded', 'discarded'}
end

local function reviewing(act)
  return function(keys, args)
    return lk.by_id(keys, args, 3, function(ctx, stage, id, job)
      return act(ctx, stage, args[1], args[2], id, job)
    end)
  end
end

lk.register('lk_dead_ack', reviewing(ack_one), {'allow-oom'})
lk.register('lk_dead_discard', reviewing(discard_one), {'allow-oom'})
