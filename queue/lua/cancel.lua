-- lk_cancel root by id...  ->  {outcome, state} per id
--
-- cancelled: it waited and is called off. cancelling: it runs; its worker is told at once and hears of it with its next
-- heartbeat in any case, and whatever the attempt ends with but success makes it cancelled. wrong-state: it has ended. not-found:
-- no record. `by` goes into the history.

local function cancel_waiting(ctx, stage, by, id, job)
  local ty = lk.type_of(ctx.policy, job[TYPE])
  if call('ZREM', ty.ready, id) == 1 and ty.groups then
    lk.line_down(ctx, ty, {id})
  end
  if call('ZREM', ty.scheduled, id) == 1 then
    lk.refresh_next(ctx, ty)
  end
  if ctx.notes then
    lk.stage_forget_notes(stage, id)
  end
  lk.remember(job, {job[ATTEMPTS], ctx.now, ctx.now, by, '', 0, ctx.policy.version, 'cancel'})
  lk.stage_cancelled(ctx, stage, ty, id, job, by)
  return {id, 'cancelled', 'cancelled'}
end

local function cancel_one(ctx, stage, by, id, job, told)
  if not job then
    return {id, 'not-found', ''}
  end
  if job[STATE] ~= LIVE then
    return {id, 'wrong-state', STATE_NAMES[job[STATE]] or ''}
  end
  local lease = lk.read_lease(call('HGET', ctx.keys.leases, id))
  if not lease then
    return cancel_waiting(ctx, stage, by, id, job)
  end
  lk.push2(stage.lease_set, id, lk.lease_with(lease, {[L_CANCEL] = lease.cancelled_by or by}))
  local boot = lease.who[1]
  if not told[boot] then
    told[boot] = true
    call('PUBLISH', ctx.keys.calls_of .. boot, 'cancel')
  end
  return {id, 'cancelling', 'running'}
end

local function cancel(keys, args)
  local told = {}
  return lk.by_id(keys, args, 2, function(ctx, stage, id, job)
    local by = lk.clip(args[1], 128)
    return cancel_one(ctx, stage, by == '' and 'someone' or by, id, job, told)
  end)
end

lk.register('lk_cancel', cancel, {'allow-oom'})
