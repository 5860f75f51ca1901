-- lk_cancel root id...  ->  {outcome, state} per id
--
-- cancelled: it waited and is called off. cancelling: it runs; its worker hears of it with the next heartbeat, and
-- whatever the attempt ends with but success makes it cancelled. wrong-state: it has ended. not-found: no record.

local function cancel_waiting(ctx, stage, id, rec, payload)
  local ty = lk.type_of(ctx.policy, rec[TYPE])
  call('ZREM', ty.ready, id)
  if call('ZREM', ty.scheduled, id) == 1 then
    lk.refresh_next(ctx, ty)
  end
  lk.stage_finished(ctx, stage, ty, id, rec, payload, CANCELLED)
  return {id, 'cancelled', 'cancelled'}
end

local function cancel_one(ctx, stage, id, raw)
  local rec, payload = lk.read_record(raw)
  if not rec then
    return {id, 'not-found', ''}
  end
  if rec[STATE] ~= LIVE then
    return {id, 'wrong-state', STATE_NAMES[rec[STATE]] or ''}
  end
  local lease, holder = lk.read_lease(call('HGET', ctx.keys.leases, id))
  if not lease then
    return cancel_waiting(ctx, stage, id, rec, payload)
  end
  lease[L_CANCEL] = 1
  lk.push2(stage.lease_set, id, lk.write_lease(lease, holder))
  return {id, 'cancelling', 'running'}
end

local function cancel(keys, args)
  return lk.by_id(keys, args, 1, cancel_one)
end

redis.register_function{function_name = 'lk_cancel', callback = cancel, flags = {'allow-oom'}}
