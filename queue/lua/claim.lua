-- lk_claim root identity settlements want [offer]
--   ->  {now, policy version, next due or -1, held or '', letters, token, refusals, checkpoints, waits (0|1), id, lane, record, past or '', id, ...}
--
-- Settles what is done (see lk_settle) and leases new jobs in one call, all under one token. want: msgpack
-- {slots, lanes, {type: most}, order (0 as listed | 1 by deadline), shares}. shares: most jobs of each lane in a first round;
-- what is left over goes round again without them. For the order within a lane see order.lua. waits: 0 where none of the lanes
-- has a job left in line, so that there is nothing to claim before a token or the next due time. offer: msgpack {offers (0|1), epoch,
-- heard}, see offer.lua; the room that is left is offered to jobs that come later.

-- The lease for jobs of the type under this claim, by its marks (see lease.lua).
local function lease_for(ctx, out, ty, marks)
  local leases = out.leases[marks]
  local lease = leases[ty]
  if not lease then
    lease = lk.new_lease(ctx, out.token, ty, out.identity, marks)
    leases[ty] = lease
  end
  return lease
end

-- Leases the jobs whose records can be read, until the reply is full; returns how many were looked at, how many of those
-- were damaged, and which.
local function lease_all(ctx, stage, lane, ids, types, out)
  local records, pasts, read = lk.read_within(ctx, ids, lk.CLAIM_BYTES - out.bytes, out.count > 0)
  local notes = lk.notes_of_tried(ctx, ids, pasts)
  local reply, damage, bad, at = out.reply, 0, {}, #out.reply
  -- One that no client can be told would make the whole reply unreadable.
  local told = lk.is_id(concat(ids))
  out.full = read < #ids
  for i = 1, read do
    local ty, raw, past = types[i], records[i], pasts[i]
    if not lk.is_live(ty, raw, past) or not (told or lk.is_id(ids[i])) then
      damage = damage + 1
      bad[ids[i]] = true
      lk.tell_damaged(ctx, ids[i], ty, raw, past)
    else
      local note = notes and notes[ids[i]]
      local size = #raw + (past and #past or 0) + (note and #note or 0)
      if out.bytes + size > lk.CLAIM_BYTES and out.count > 0 then
        out.full = true
        return i - 1, damage, bad
      end
      lk.push2(stage.lease_set, ids[i], lease_for(ctx, out, ty, (byte(raw, 1) > PLAIN and 1 or 0) + (note and 2 or 0)))
      lk.push2(stage.running_add, out.expiry, ids[i])
      out.leased[ty] = (out.leased[ty] or 0) + 1
      out.limits[ty.name] = out.limits[ty.name] and out.limits[ty.name] - 1
      reply[at + 1], reply[at + 2], reply[at + 3], reply[at + 4] = ids[i], lane.name, raw, past or ''
      at = at + 4
      if note and note ~= '' then
        lk.push2(reply[8], ids[i], note)
      end
      out.bytes = out.bytes + size
      out.count = out.count + 1
    end
  end
  return read, damage, bad
end

-- Whether any job stands in one of the lane's lines.
function lk.lane_waits(lane)
  for _, ty in ipairs(lane.types) do
    if call('EXISTS', ty.ready) == 1 then
      return true
    end
  end
  return false
end

-- Whether any job of a lane whose own gates are open may go; where only time stands in the way, until when.
local function lane_goes(ctx, lane)
  local opens
  for _, ty in ipairs(lane.types) do
    if not ty.groups then
      if call('EXISTS', ty.ready) == 1 then
        return true
      end
    elseif lk.groups_wait(ctx, ty) then
      return true
    else
      local till = lk.groups_open(ctx, ty)
      opens = till and min(opens or till, till) or opens
    end
  end
  return false, opens
end

-- Whether any job of a lane may go; where only time stands in the way, until when.
local function may_go(ctx, lane)
  local room, _, opens = lk.lane_room(ctx, lane, 1)
  if room > 0 then
    return lane_goes(ctx, lane)
  end
  return false, opens
end

-- Whether a claim that may take nothing of what waits (its types are at their limits) leaves a token for another worker, or
-- a sweep one in place of what may have been lost. Not more often than now and then: where no other worker has room, the
-- token comes back to the same one.
local function may_put_back(ctx, lane)
  local field = 'b:' .. lane.name
  local last = tonumber(call('HGET', ctx.keys.meta, field))
  if last and ctx.now >= last and ctx.now - last < lk.PUT_BACK then
    return false
  end
  call('HSET', ctx.keys.meta, field, ctx.now)
  return true
end

-- Where jobs of a lane may go and no token says so, somebody is woken: tokens are lost with the connections they went to.
function lk.wake_again(ctx, lane)
  if lk.lane_waits(lane) and may_go(ctx, lane) and call('EXISTS', lane.wake) == 0 and may_put_back(ctx, lane) then
    call('RPUSH', lane.wake, '1')
  end
end

-- Takes up to `most` jobs of a lane, as far as its gates let them through; returns how many it got.
local function claim_lane(ctx, stage, lane, most, out)
  local before, known = out.count
  known, most = lk.try(ctx, lk.lane_room, lane, most)
  for _ = 1, known and 3 or 0 do
    local room = most - (out.count - before)
    if room <= 0 or out.full then
      break
    end
    -- A key that something else overwrote stops no other lane.
    local read, ids, types, alone = lk.try(ctx, lk.next_of, lane, room, out.limits)
    if not read or not ids[1] then
      break
    end
    local seen, damage, bad = lease_all(ctx, stage, lane, ids, types, out)
    lk.take(ctx, ids, types, seen, alone, bad)
    lk.damaged(ctx, damage)
    -- Only entries without a record are worth another look: otherwise this was all there is.
    if damage == 0 then
      break
    end
  end
  local got = out.count - before
  out.touched[lane] = (out.touched[lane] or 0) + got
  if got > 0 and lane.gated then
    ctx.handed_out[lane] = (ctx.handed_out[lane] or 0) + got
    lk.lane_spent(ctx, lane, got, out.reply[#out.reply - 3])
  end
  return got
end

-- Keeps a lane's wake list in step: empty when nothing waits, a token when more waits than was taken and may go. Notes when
-- a gate that time opens does so.
local function tidy_wake(ctx, lane, taken, out)
  if not lk.lane_waits(lane) then
    call('DEL', lane.wake)
    return
  end
  out.reply[9] = 1
  local goes, opens = may_go(ctx, lane)
  if not goes then
    -- Whoever followed a token now would come in vain.
    call('DEL', lane.wake)
    out.opens = opens and min(out.opens or opens, opens) or out.opens
  elseif call('EXISTS', lane.wake) == 0 and (taken > 0 or may_put_back(ctx, lane)) then
    call('RPUSH', lane.wake, '1')
  end
end

-- In the order listed: a round with shares, where there are any, and a round for what is left over.
local function claim_listed(ctx, stage, want, out)
  for round = want.shares[1] and 1 or 2, 2 do
    for i, lane in ipairs(want.lanes) do
      local most = want.slots - out.count
      if round == 1 then
        most = min(most, want.shares[i] or 0)
      end
      if most > 0 then
        claim_lane(ctx, stage, lane, most, out)
      end
    end
  end
end

-- By deadline: from every lane as many as have the least time left.
local function claim_urgent(ctx, stage, want, out)
  for _, lane in ipairs(want.lanes) do
    out.touched[lane] = 0
  end
  for _ = 1, 3 do
    local room = want.slots - out.count
    if room <= 0 or out.full then
      break
    end
    local before, asked = out.count, 0
    for _, turn in ipairs(lk.most_urgent(ctx, want.lanes, room, out.limits)) do
      asked = asked + turn.count
      claim_lane(ctx, stage, turn.lane, turn.count, out)
    end
    -- Only damage leaves a claim short of what was seen to wait.
    if out.count - before == asked then
      break
    end
  end
end

-- A whole number of jobs from what a client sent; nil when it is none.
local function count_of(value)
  -- NaN is equal to nothing.
  return type(value) == 'number' and value == value and max(0, min(floor(value), lk.MAX_BATCH)) or nil
end

local function read_want(ctx, blob)
  local want = lk.decode(blob or '')
  if not want or type(want[1]) ~= 'number' or type(want[2]) ~= 'table' or type(want[3]) ~= 'table' then
    return nil
  end
  local lanes, shares, limits, asked = {}, {}, {}, type(want[5]) == 'table' and want[5] or {}
  for i = 1, min(#want[2], 64) do
    local lane = ctx.policy.lane[want[2][i]]
    if lane then
      lanes[#lanes + 1] = lane
      shares[#lanes] = asked[1] and (count_of(asked[i]) or 0) or nil
    end
  end
  for name, most in pairs(want[3]) do
    limits[name] = count_of(most)
    if not limits[name] then
      return nil
    end
  end
  local slots = count_of(want[1])
  return slots and {slots = slots, lanes = lanes, limits = limits, urgent = want[4] == 1, shares = shares}
end

-- Hands out jobs under one token; counts them in `settled`.
local function hand_out(ctx, want, out, settled)
  local stage = lk.stage()
  if out.due and out.due <= ctx.now then
    lk.promote(ctx, lk.PROMOTE)
    out.due = lk.next_scheduled(ctx)
  end
  if ctx.activity and ctx.now < ctx.activity then
    lk.doubt_groups(ctx)
  end
  out.token, out.expiry = lk.new_token(ctx), lk.digits(ctx.now + ctx.lease)
  out.reply[6], out.reply[9] = out.token, 0
  if want.urgent then
    claim_urgent(ctx, stage, want, out)
  else
    claim_listed(ctx, stage, want, out)
  end
  for _, lane in ipairs(want.lanes) do
    lk.asked_for(ctx, lane)
    if out.touched[lane] then
      lk.try(ctx, tidy_wake, lane, out.touched[lane], out)
    end
  end
  for ty, count in pairs(out.leased) do
    lk.count(settled, 'r', ty, count)
  end
  lk.commit_jobs(ctx, stage)
end

-- What a claim collects, and the reply to it.
local function collect(ctx, identity, want, letters, refusals)
  return {
    reply = {ctx.now, ctx.policy.version, -1, lk.queue_held(ctx) or '', letters, 0, refusals, {}, 1}, count = 0, bytes = 0,
    limits = want.limits, identity = identity, leases = {[0] = {}, {}, {}, {}}, leased = {}, touched = {}, due = lk.next_scheduled(ctx),
  }
end

-- Hands out jobs, and writes the counters of what ended and what begins at once; who asks meanwhile how much runs is told by
-- `uncounted`.
local function hand_out_counted(ctx, want, out, stage)
  ctx.handed_out, ctx.uncounted = {}, stage
  if want.slots > 0 and not lk.queue_held(ctx) then
    hand_out(ctx, want, out, stage)
  end
  lk.commit_counts(ctx, stage)
  ctx.handed_out, ctx.uncounted = nil, nil
  if out.count < want.slots then
    -- When there is a reason to look again: a scheduled job falls due, or a gate opens.
    out.reply[3] = out.due and min(out.due, out.opens or out.due) or out.opens or -1
  end
end

local function claim(keys, args)
  local ctx, failure = lk.open(keys, true)
  if failure then
    return failure
  end
  local who, list, wrong = lk.read_worker_call(args[1], args[2], lk.MAX_BATCH)
  local want = read_want(ctx, args[3])
  wrong = wrong or lk.too_many_follow_ups(list)
  if wrong or not want then
    return wrong or lk.error('LKARGS', 'the wish must be msgpack {slots, lanes, {type: most}, order, shares}')
  end
  lk.require_leases(ctx)
  local stage = lk.stage()
  local letters, refusals = lk.settle_all(ctx, stage, who, list)
  lk.commit_settled(ctx, stage)
  local offer = lk.read_offer(ctx, who, args[4], want)
  local out = collect(ctx, args[1], want, letters, refusals)
  hand_out_counted(ctx, want, out, stage)
  lk.keep_offer(ctx, who, args[1], offer, want, want.slots - out.count)
  lk.try(ctx, lk.wake_for_room)
  lk.touch(ctx)
  return out.reply
end

lk.register('lk_claim', claim, {'allow-oom'})
