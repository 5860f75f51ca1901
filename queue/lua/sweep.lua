-- lk_sweep root identity limit
--   ->  {now, policy version, rearmed, promoted, trimmed, more (0|1), token, id, lane, since, lost by, record, past or '', id, ...}
--
-- Promotes what became due, takes over expired leases, trims by age, forgets old keys and silent workers; every part
-- bounded by `limit`. The sweeper decides about each job it took over and settles it under the new token; when it dies
-- before that, its own lease on the job expires and the job is swept again, still in the name of the worker that lost it.
-- Outage-neutral: within one lease after an outage (see lk.touch) leases are re-armed and none expires.

-- After an outage every lapsed lease ends one lease after the outage did.
local function rearm(ctx, limit)
  local horizon, changes = ctx.outage + ctx.lease, {}
  local ids = call('ZRANGEBYSCORE', ctx.keys.running, '-inf', ctx.now, 'LIMIT', 0, limit)
  for _, id in ipairs(ids) do
    lk.push2(changes, horizon, id)
  end
  lk.write('ZADD', ctx.keys.running, changes)
  return #ids, #ids == limit
end

-- Every lease that a clock gone back left in the far future ends one lease from now, and so does at any time what has none. The mark
-- that the clock did stands until none is left, whatever happened since: an outage right after the step must not make sweeps forget them.
local function bring_near(ctx, limit)
  local horizon, changes = ctx.now + ctx.lease, {}
  local from = ctx.back and '(' .. lk.digits(horizon) or lk.LATEST
  local far = call('ZRANGEBYSCORE', ctx.keys.running, from, '+inf', 'LIMIT', 0, limit)
  for _, id in ipairs(far) do
    lk.push2(changes, horizon, id)
  end
  lk.write('ZADD', ctx.keys.running, changes)
  if ctx.back and #far < limit then
    call('HDEL', ctx.keys.meta, 'back')
  end
  return #far, #far == limit
end

-- An entry without a lease: the job goes back to its line when it lives, the entry goes.
local function repair(ctx, stage, id, job)
  stage.running_del[#stage.running_del + 1] = id
  local ty = job and lk.type_of(ctx.policy, job[TYPE])
  if job and job[STATE] == LIVE and not call('ZSCORE', ty.scheduled, id) then
    lk.push2(lk.of_type(stage, ty).ready, lk.digits(lk.ready_score(job[PRIORITY], lk.due_of(job))), id)
  end
end

local function take_over(ctx, stage, identity, id, lease, raw, past, reply)
  local lost_by = lease[L_LOST_BY] or lease[L_HOLDER]
  local lost_token = lease[L_LOST_BY] and lease[L_LOST_TOKEN] or lease[L_TOKEN]
  lk.push2(stage.lease_set, id, lk.lease_with(lease, {
    [L_TOKEN] = reply[7], [L_HOLDER] = identity, [L_LOST_TOKEN] = lost_token, [L_LOST_BY] = lost_by,
  }))
  lk.push2(stage.running_add, lk.digits(ctx.now + ctx.lease), id)
  local ty = lk.type_of(ctx.policy, lease[L_TYPE])
  lk.stage_event(stage, 'lease-expired', id, ty, (lk.read_identity(lost_by) or {'', ''})[2])
  for _, value in ipairs({id, ty.lane and ty.lane.name or '', lease[L_SINCE], lost_by, raw, past or ''}) do
    reply[#reply + 1] = value
  end
end

-- Takes expired leases over into `reply`; returns whether more have expired.
local function expire(ctx, stage, identity, limit, reply)
  local ids = call('ZRANGEBYSCORE', ctx.keys.running, '-inf', ctx.now, 'LIMIT', 0, limit)
  if not ids[1] then
    return false
  end
  local leases = call('HMGET', ctx.keys.leases, unpack_list(ids))
  local records, pasts, read = lk.read_within(ctx, ids, lk.CLAIM_BYTES)
  local damage, more = 0, #ids == limit or read < #ids
  reply[7] = lk.new_token(ctx)
  for i = 1, read do
    local id = ids[i]
    local lease = lk.read_lease(leases[i])
    local job = lk.read_job(records[i], pasts[i])
    if lease and job and job[STATE] == LIVE and lk.is_id(id) then
      take_over(ctx, stage, identity, id, lease, records[i], pasts[i], reply)
    else
      damage = damage + 1
      if lease then
        local ty = lk.type_of(ctx.policy, lease[L_TYPE])
        lk.tell_damaged(ctx, id, ty, records[i], pasts[i])
        lk.stage_unlease(stage, id, ty)
      else
        stage.lease_del[#stage.lease_del + 1] = id
        repair(ctx, stage, id, job)
      end
    end
  end
  lk.damaged(ctx, damage)
  return more
end

-- Of one type, at most `limit`; returns how many.
local function trim_type(ctx, ty, limit)
  local removed = lk.trim_count(ctx, ty, limit, 0)
  if removed < limit then
    local old = call('ZRANGEBYSCORE', ty.finished, '-inf', ctx.now - ty.keep_for, 'LIMIT', 0, limit - removed)
    if old[1] then
      call('ZREM', ty.finished, unpack_list(old))
      lk.forget_finished(ctx, old)
      removed = removed + #old
    end
  end
  return removed + lk.trim_discarded(ctx, ty, limit - removed)
end

-- Removes finished records beyond their age or number, and discarded dead letters beyond their age.
local function trim(ctx, limit)
  local names = call('SMEMBERS', ctx.keys.types)
  local removed = 0
  for _, name in ipairs(names) do
    local _, count = lk.try(ctx, trim_type, lk.type_of(ctx.policy, name), limit - removed)
    removed = removed + (count or 0)
  end
  return removed + lk.make_room(ctx, min(lk.pressure(ctx), limit - removed))
end

-- What is scheduled for no time comes back by its record; and what is due is known to be.
local function forget_timeless_of(ctx, ty, limit)
  local found = call('ZRANGEBYSCORE', ty.scheduled, 10 * lk.LATEST, '+inf', 'LIMIT', 0, limit)
  if found[1] then
    call('ZREM', ty.scheduled, unpack_list(found))
    ctx.suspicious = true
  end
  lk.refresh_next(ctx, ty)
end

local function forget_timeless(ctx, limit)
  for _, name in ipairs(call('SMEMBERS', ctx.keys.types)) do
    lk.try(ctx, forget_timeless_of, lk.type_of(ctx.policy, name), limit)
  end
  for _, name in ipairs(call('ZRANGEBYSCORE', ctx.keys.next, lk.LATEST, '+inf', 'LIMIT', 0, limit)) do
    lk.refresh_next(ctx, lk.type_of(ctx.policy, name))
  end
end

-- Forgets idempotency keys whose time is over; an entry that a new owner took meanwhile stays.
local function forget_keys(ctx, limit)
  local keys = ctx.keys
  local old = call('ZRANGEBYSCORE', keys.keys_by_expiry, '-inf', ctx.now, 'LIMIT', 0, limit)
  if not old[1] then
    return false
  end
  local entries, gone = call('HMGET', keys.keys, unpack_list(old)), {}
  for i, key in ipairs(old) do
    local expiry = entries[i] and tonumber(string.match(entries[i], ' (%d+)$'))
    if expiry and expiry <= ctx.now then
      gone[#gone + 1] = key
    end
  end
  call('ZREM', keys.keys_by_expiry, unpack_list(old))
  if gone[1] then
    call('HDEL', keys.keys, unpack_list(gone))
  end
  return #old == limit
end

-- Forgets workers that have been silent for long.
local function forget_workers(ctx)
  local beats = call('HGETALL', ctx.keys.workers)
  local gone = {}
  lk.forget_offers_but(ctx.keys.root, beats)
  for i = 1, #beats, 2 do
    local times = lk.read_heartbeat(beats[i + 1])
    if (not times or times[1] < ctx.now - 20 * ctx.policy.lease) and #gone < 1000 then
      gone[#gone + 1] = beats[i]
    end
  end
  if gone[1] then
    call('HDEL', ctx.keys.workers, unpack_list(gone))
  end
end

local function wake_all(ctx)
  for _, lane in ipairs(lk.queue_held(ctx) and NONE or ctx.policy.lanes) do
    lk.wake_again(ctx, lane)
  end
end

local function tidy_groups(ctx, ty)
  local more = lk.forget_groups(ctx, ty)
  return lk.regroup(ctx, ty) or more
end

-- By counts that were mended, and not while a lease is lost: a type may have a running job all the same.
local function forget_types(ctx)
  if call('HLEN', ctx.keys.leases) == call('ZCARD', ctx.keys.running) then
    lk.forget_types(ctx)
  end
end

-- What a sweep does beside leases: how many jobs were promoted, how many trimmed, and whether there is `more` to do at once.
-- Each part for itself: leases were taken over, and a reply that is lost for a damaged key would leave them to nobody.
local function tidy_up(ctx, limit, more)
  local _, promoted, more_due = lk.try(ctx, lk.promote, limit)
  local _, trimmed = lk.try(ctx, trim, limit)
  local _, more_keys = lk.try(ctx, forget_keys, limit)
  lk.try(ctx, forget_timeless, limit)
  lk.try(ctx, forget_workers)
  lk.try(ctx, lk.forget_stray_notes)
  local _, more_repairs = lk.try(ctx, lk.repair)
  lk.try(ctx, forget_types)
  lk.try(ctx, lk.tidy_gates)
  lk.try(ctx, wake_all)
  lk.try(ctx, lk.estimate)
  local _, abandoned = lk.try(ctx, lk.forget_abandoned)
  more_repairs = more_repairs or abandoned
  for _, ty in pairs(ctx.policy.types) do
    if ty.groups then
      local _, unsorted = lk.try(ctx, tidy_groups, ty)
      more_repairs = unsorted or more_repairs
    end
  end
  promoted, trimmed = promoted or 0, trimmed or 0
  more = more or more_due or trimmed >= limit or more_keys or more_repairs
  return promoted, trimmed, more and 1 or 0
end

local function sweep(keys, args)
  local ctx, failure = lk.open(keys, true)
  if failure then
    return failure
  end
  local _, _, wrong = lk.read_worker_call(args[1], nil, 0)
  local limit = tonumber(args[2])
  if wrong or not limit or not (limit >= 1) then
    return wrong or lk.error('LKARGS', 'lk_sweep takes an identity and a limit of 1 to 200')
  end
  lk.require_leases(ctx)
  limit = floor(min(limit, lk.MAX_BATCH))
  lk.touch(ctx)
  local reply = {ctx.now, ctx.policy.version, 0, 0, 0, 0, 0}
  local stage, more_leases = lk.stage(), false
  local near, more_far = bring_near(ctx, limit)
  if ctx.now < ctx.outage + ctx.lease then
    reply[3], more_leases = rearm(ctx, limit)
  else
    more_leases = expire(ctx, stage, args[1], limit, reply)
  end
  reply[3], more_leases = reply[3] + near, more_leases or more_far
  lk.commit(ctx, stage)
  reply[4], reply[5], reply[6] = tidy_up(ctx, limit, more_leases)
  call('HSET', ctx.keys.meta, 't', ctx.token)
  return reply
end

lk.register('lk_sweep', sweep, {'allow-oom'})
