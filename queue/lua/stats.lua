-- lk_stats root  ->  {now, policy version, paused (0|1), closed or '', dead, next due or -1, damaged, lane names,
--   types, workers, closed gates (see gates.lua), records, their bytes about or -1, full (0|1)}
--
-- types: one {name, lane or '', ready, scheduled, running, dead, oldest due or -1,
-- next due or -1, enqueued, succeeded, failed, died,
-- cancelled, attempts, busy ms} per known type. workers: {seen, started, info} of each live one (three leases).

local LETTERS = {'e', 's', 'f', 'd', 'x', 'a', 'b'}

-- When the oldest due job became due. Lines are sorted by priority first, so the head of each priority is asked.
local function oldest_due(ctx, ty)
  local oldest
  local from = '-inf'
  for _ = 1, 10 do
    local head = call('ZRANGEBYSCORE', ty.ready, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if not head[1] then
      break
    end
    local priority, due = lk.split_score(tonumber(head[2]))
    -- What no client could be told is no time.
    due = lk.whole(due)
    oldest = due and min(oldest or due, due) or oldest
    from = lk.digits((priority + 1) * lk.PRIORITY_STEP)
  end
  local first = call('ZRANGE', ty.scheduled, 0, 0, 'WITHSCORES')
  local due = first[2] and lk.whole(floor(tonumber(first[2]) / 10))
  if due and due <= ctx.now then
    oldest = min(oldest or due, due)
  end
  return oldest or -1
end

local function next_due(ctx, ty)
  local head = call('ZRANGEBYSCORE', ty.scheduled, '(' .. lk.digits(ctx.now * 10 + 9), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return head[2] and lk.whole(floor(tonumber(head[2]) / 10)) or -1
end

local function type_stats(ctx, name, counters)
  local ty = lk.type_of(ctx.policy, name)
  local scheduled = call('ZCARD', ty.scheduled)
  local due = scheduled > 0 and call('ZCOUNT', ty.scheduled, '-inf', ctx.now * 10 + 9) or 0
  local ready = call('ZCARD', ty.ready) + due
  local out = {
    name, ty.lane and ty.lane.name or '', ready, scheduled - due, counters['r:' .. name] or 0,
    call('ZCARD', ty.dead), ready > 0 and oldest_due(ctx, ty) or -1,
    scheduled > due and next_due(ctx, ty) or -1,
  }
  for _, letter in ipairs(LETTERS) do
    out[#out + 1] = counters[letter .. ':' .. name] or 0
  end
  return out
end

local function live_workers(ctx)
  local beats, live = call('HGETALL', ctx.keys.workers), {}
  for i = 2, #beats, 2 do
    local times, info = lk.read_heartbeat(beats[i])
    if times and times[1] >= ctx.now - 3 * ctx.policy.lease then
      live[#live + 1] = {times[1], times[2], info}
    end
  end
  return live
end

local function stats(keys)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  -- Calls go on by the policy they remember; whoever tends the queue must learn here that the stored one is gone.
  if call('EXISTS', ctx.keys.policy) == 0 then
    return lk.error('NOPOLICY', 'the stored policy is gone: apply the JobQueue again')
  end
  local raw, counters = call('HGETALL', ctx.keys.counters), {}
  for i = 1, #raw, 2 do
    counters[raw[i]] = lk.whole(raw[i + 1])
  end
  local names = call('SMEMBERS', ctx.keys.types)
  table.sort(names)
  local types = {}
  for i, name in ipairs(names) do
    types[i] = type_stats(ctx, name, counters)
  end
  local lanes = {}
  for i, lane in ipairs(ctx.policy.lanes) do
    lanes[i] = lane.name
  end
  local head = call('ZRANGE', ctx.keys.next, 0, 0, 'WITHSCORES')
  local gates = lk.closed_gates(ctx)
  local records, bytes = lk.volume(ctx)
  return {
    ctx.now, ctx.policy.version, (ctx.policy.paused or lk.gates(ctx).p) and 1 or 0, ctx.policy.closed or '', call('ZCARD', ctx.keys.dead),
    lk.whole(head[2]) or -1, lk.whole(call('HGET', ctx.keys.meta, 'x')) or 0, lanes, types, live_workers(ctx),
    gates, records, bytes or -1, lk.is_full(ctx) and 1 or 0,
  }
end

lk.register('lk_stats', stats, {'no-writes'})
