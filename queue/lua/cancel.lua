-- lk_cancel root id...  ->  {outcome, state} per id
--
-- cancelled: it waited and is called off. cancelling: it runs; its worker hears of it with the next heartbeat, and
-- whatever the attempt ends with but success makes it cancelled. wrong-state: it has ended. not-found: no record.

local function cancel_waiting(ctx, stage, id, job)
  local ty = lk.type_of(ctx.policy, job[TYPE])
  if call('ZREM', ty.ready, id) == 1 and ty.groups then
    lk.line_down(ctx, ty, {id})
  end
  if call('ZREM', ty.scheduled, id) == 1 then
    lk.refresh_next(ctx, ty)
  end
  lk.stage_cancelled(ctx, stage, ty, id, job)
  return {id, 'cancelled', 'cancelled'}
end

local function cancel_one(ctx, stage, id, job)
  if not job then
    return {id, 'not-found', ''}
  end
  if job[STATE] ~= LIVE then
    return {id, 'wrong-state', STATE_NAMES[job[STATE]] or ''}
  end
  local lease = lk.read_lease(call('HGET', ctx.keys.leases, id))
  if not lease then
    return cancel_waiting(ctx, stage, id, job)
  end
  lk.push2(stage.lease_set, id, lk.lease_with(lease, {[L_CANCEL] = 1}))
  return {id, 'cancelling', 'running'}
end

local function cancel(keys, args)
  return lk.by_id(keys, args, 1, cancel_one)
end

redis.register_function{function_name = 'lk_cancel', callback = cancel, flags = {'allow-oom'}}
