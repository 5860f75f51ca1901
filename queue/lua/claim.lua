-- lk_claim root identity settlements want
--   ->  {now, policy version, next due or -1, held or '', letters, id, token, lane, record, id, token, lane, record, ...}
--
-- Settles what is done (see lk_settle) and leases new jobs in one call. want: msgpack {slots, lanes, {type: most}}.
-- Lanes are served strictly in the order given; within a lane by priority, then by due time, over all of its types.

-- How many jobs of the type may still be taken.
local function room_of(ty, limits, slots)
  local limit = limits[ty.name]
  return type(limit) == 'number' and min(limit, slots) or slots
end

-- Picks up to `slots` heads over several types in order: {type, count} and the merged order.
local function merge_heads(lines, slots)
  local picked = {}
  for _ = 1, slots do
    local best, best_score, best_id
    for _, line in ipairs(lines) do
      local id, score = line.heads[line.at], tonumber(line.heads[line.at + 1])
      if id and (not best or score < best_score or (score == best_score and id < best_id)) then
        best, best_score, best_id = line, score, id
      end
    end
    if not best then
      break
    end
    best.at = best.at + 2
    best.taken = best.taken + 1
    picked[#picked + 1] = {id = best_id, ty = best.ty, score = best_score}
  end
  return picked
end

-- Takes up to `slots` jobs of a lane out of their lines, in order.
local function pop_lane(lane, slots, limits)
  local lines = {}
  for _, ty in ipairs(lane.types) do
    local room = room_of(ty, limits, slots)
    if room > 0 then
      lines[#lines + 1] = {ty = ty, room = room, at = 1, taken = 0}
    end
  end
  if #lines > 1 then
    local filled = {}
    for _, line in ipairs(lines) do
      line.heads = call('ZRANGE', line.ty.ready, 0, line.room - 1, 'WITHSCORES')
      if line.heads[1] then
        filled[#filled + 1] = line
      end
    end
    lines = filled
  end
  if #lines == 1 then
    local ty, picked = lines[1].ty, {}
    local popped = call('ZPOPMIN', ty.ready, lines[1].room)
    for i = 1, #popped, 2 do
      picked[#picked + 1] = {id = popped[i], ty = ty, score = tonumber(popped[i + 1])}
    end
    return picked
  end
  local picked = merge_heads(lines, slots)
  for _, line in ipairs(lines) do
    if line.taken > 0 then
      call('ZPOPMIN', line.ty.ready, line.taken)
    end
  end
  return picked
end

-- Leases the picked jobs whose records can be read; puts back what would make the reply too large.
local function lease_picked(ctx, stage, identity, lane, picked, out)
  local ids = {}
  for i, pick in ipairs(picked) do
    ids[i] = pick.id
  end
  local records = call('HMGET', ctx.keys.jobs, unpack_list(ids))
  local taken, damage = 0, 0
  local expiry = lk.digits(ctx.now + ctx.lease)
  for i, pick in ipairs(picked) do
    local raw = records[i]
    if lk.live_type(raw) ~= pick.ty.name then
      damage = damage + 1
    elseif out.bytes + #raw > lk.CLAIM_BYTES and out.count > 0 then
      lk.push2(lk.of_type(stage, pick.ty).ready, pick.score, pick.id)
      out.full = true
    else
      local token = lk.new_token(ctx)
      lk.push2(stage.lease_set, pick.id, lk.write_lease({token, ctx.now, pick.ty.name}, identity))
      lk.push2(stage.running_add, expiry, pick.id)
      lk.count(stage, 'r', pick.ty, 1)
      out.limits[pick.ty.name] = out.limits[pick.ty.name] and out.limits[pick.ty.name] - 1
      local reply, n = out.reply, #out.reply
      reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = pick.id, token, lane.name, raw
      out.bytes = out.bytes + #raw
      out.count = out.count + 1
      taken = taken + 1
    end
  end
  lk.damaged(ctx, damage)
  return taken, damage
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

-- Whether a claim that may take nothing of what waits (its types are at their limits) leaves a token for another worker.
-- Not more often than now and then: where there is no other worker, the token comes back to the same one.
local function may_put_back(ctx, lane)
  local field = 'b:' .. lane.name
  local last = tonumber(call('HGET', ctx.keys.meta, field))
  if last and ctx.now >= last and ctx.now - last < lk.PUT_BACK then
    return false
  end
  call('HSET', ctx.keys.meta, field, ctx.now)
  return true
end

-- Serves one lane; keeps its wake list in step: empty when nothing waits, a token when more waits than was taken.
local function claim_lane(ctx, stage, identity, lane, slots, out)
  local before = out.count
  for _ = 1, 3 do
    local room = slots - out.count
    if room <= 0 or out.full then
      break
    end
    local picked = pop_lane(lane, room, out.limits)
    if not picked[1] then
      break
    end
    local _, damage = lease_picked(ctx, stage, identity, lane, picked, out)
    -- Only entries without a record are worth another look: otherwise this was all there is.
    if damage == 0 then
      break
    end
  end
  if not lk.lane_waits(lane) then
    call('DEL', lane.wake)
  elseif call('EXISTS', lane.wake) == 0 and (out.count > before or may_put_back(ctx, lane)) then
    call('RPUSH', lane.wake, '1')
  end
end

local function read_want(blob)
  local want = lk.decode(blob or '')
  if not want or type(want[1]) ~= 'number' or type(want[2]) ~= 'table' or type(want[3]) ~= 'table' then
    return nil
  end
  return {slots = max(0, min(floor(want[1]), lk.MAX_BATCH)), lanes = want[2], limits = want[3]}
end

local function next_due(ctx)
  local head = call('ZRANGE', ctx.keys.next, 0, 0, 'WITHSCORES')
  return head[2] and tonumber(head[2]) or -1
end

local function claim(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  local who, list, wrong = lk.read_worker_call(args[1], args[2], lk.MAX_BATCH)
  local want = read_want(args[3])
  if wrong or not want then
    return wrong or lk.error('LKARGS', 'the wish must be msgpack {slots, lanes, {type: most}}')
  end
  local stage = lk.stage()
  local letters = lk.settle_all(ctx, stage, args[1], who, list)
  lk.commit_jobs(ctx, stage)
  local held = ctx.policy.held
  local out = {reply = {ctx.now, ctx.policy.version, -1, held or '', letters}, count = 0, bytes = 0, limits = want.limits}
  local leases = lk.stage()
  if want.slots > 0 and not held then
    lk.promote(ctx, lk.PROMOTE)
    for _, name in ipairs(want.lanes) do
      local lane = ctx.policy.lane[name]
      if lane and out.count < want.slots and not out.full then
        claim_lane(ctx, leases, args[1], lane, want.slots, out)
      end
    end
    lk.commit_jobs(ctx, leases)
  end
  lk.commit_counts(ctx, leases, stage)
  lk.commit_counts(ctx, stage)
  if out.count < want.slots then
    out.reply[3] = next_due(ctx)
  end
  lk.touch(ctx)
  return out.reply
end

redis.register_function{function_name = 'lk_claim', callback = claim, flags = {'allow-oom'}}
