-- What people say of dead letters, kept in the job's history with who, when and why.
--
-- lk_dead_ack root by why meant id...  ->  {outcome, state} per id
--   acknowledged: somebody saw it. It stays a dead letter, keeps its key and is never trimmed.
-- lk_dead_discard root by why meant id...  ->  {outcome, state} per id
--   discarded: it will not be replayed. It leaves the dead letters and frees its key; record, payload and history stay, for
--   ever or as long as its type's `dead.keepReviewedFor` says. A replay by its id takes it back.
-- meant: '' for jobs that somebody named; of those that a filter found 'states until': which review states ('o', 'a', 'd', as on cards)
--   it asked for, and until when, ms, they died or were discarded. What was found may have been decided about, or have run and died
--   again, before the call comes.
-- wrong-state: it is no dead letter, was acknowledged (discarded) before, or is not what is meant. An entry whose record is missing or
-- damaged is removed by a discard, and answers not-found.

-- Remembers what somebody decided about a dead job.
function lk.remember_word(ctx, job, outcome, code, word)
  local entry = {job[ATTEMPTS], ctx.now, ctx.now, lk.clip(word.by, 128), '', 0, ctx.policy.version, outcome}
  if word.why ~= '' then
    entry[9], entry[10], entry[11] = 'transient', code, lk.clip(word.why, MESSAGE_OLD)
  end
  lk.remember(job, entry, true)
end

-- The word of who acts: by, why, and what is meant; or nil and an error reply.
function lk.read_word(args)
  local word = {by = args[1], why = args[2]}
  if args[3] and args[3] ~= '' then
    word.states, word.till = string.match(args[3], '^([oad]+) (%d+)$')
    if not word.states then
      return nil, lk.error('LKARGS', 'what is meant is nothing, or review states (o, a, d), a blank and a time in ms')
    end
    word.till = tonumber(word.till)
  end
  return word
end

-- Whether a dead or discarded job is still what is meant.
function lk.is_meant(word, job)
  return not word.states or (find(word.states, lk.review_of(job), 1, true) ~= nil and job[FINISHED] <= word.till)
end

local function ack_one(ctx, stage, word, id, job)
  if not job then
    return {id, 'not-found', ''}
  end
  if job[STATE] ~= DEAD or lk.is_acknowledged(job) or not lk.is_meant(word, job) then
    return {id, 'wrong-state', lk.state_of(ctx, id, job)}
  end
  lk.remember_word(ctx, job, 'acknowledge', 'Acknowledged', word)
  lk.push2(stage.past_set, id, lk.write_past(job))
  lk.stage_card(stage, id, job)
  lk.stage_event(stage, 'acknowledged', id, lk.type_of(ctx.policy, job[TYPE]), lk.clip(word.by, 128))
  return {id, 'acknowledged', 'dead'}
end

local function discard_one(ctx, stage, word, id, job)
  if not job then
    lk.forget_letters(ctx, {id})
    return {id, 'not-found', ''}
  end
  if job[STATE] ~= DEAD or not lk.is_meant(word, job) then
    return {id, 'wrong-state', lk.state_of(ctx, id, job)}
  end
  lk.stage_undead(ctx, stage, id, job)
  lk.stage_free_key(stage, id, job[KEY])
  lk.remember_word(ctx, job, 'discard', 'Discarded', word)
  job[STATE], job[FINISHED] = DISCARDED, ctx.now
  lk.push2(stage.past_set, id, lk.write_past(job))
  lk.stage_discarded(ctx, stage, id, job)
  lk.stage_event(stage, 'discarded', id, lk.type_of(ctx.policy, job[TYPE]), lk.clip(word.by, 128))
  return {id, 'discarded', 'discarded'}
end

local function reviewing(act)
  return function(keys, args)
    local word, wrong = lk.read_word(args)
    return wrong or lk.by_id(keys, args, 4, function(ctx, stage, id, job)
      return act(ctx, stage, word, id, job)
    end)
  end
end

lk.register('lk_dead_ack', reviewing(ack_one), {'allow-oom'})
lk.register('lk_dead_discard', reviewing(discard_one), {'allow-oom'})
