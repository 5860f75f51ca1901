-- Staged writes. A transition decides on everything first and stages what it wants; `lk.commit` then writes it in
-- few, batched commands. Nothing can be refused half-way, because everything was checked before.

function lk.stage()
  return {
    record_set = {}, past_set = {}, past_del = {}, record_del = {}, lease_set = {}, lease_del = {}, running_add = {}, running_del = {},
    key_set = {}, key_del = {}, key_expiry = {}, dead_add = {}, dead_del = {}, types = {}, touched = {},
    group_set = {}, class_set = {},
  }
end

-- The staged index changes of one type.
local function of_type(stage, ty)
  local own = stage.types[ty]
  if not own then
    own = {ready = {}, scheduled = {}, finished = {}, dead = {}, dead_del = {}, freed = {}, counts = {}, first_due = false}
    stage.types[ty] = own
    stage.touched[#stage.touched + 1] = ty
  end
  return own
end
lk.of_type = of_type

local function push2(list, a, b)
  local n = #list
  list[n + 1] = a
  list[n + 2] = b
end
lk.push2 = push2

-- Adds to a counter or gauge of the type.
function lk.count(stage, letter, ty, by)
  local counts = of_type(stage, ty).counts
  counts[letter] = (counts[letter] or 0) + by
end

-- The job waits: in line when due, else scheduled.
function lk.stage_waiting(ctx, stage, ty, id, job, due)
  local own = of_type(stage, ty)
  if due > ctx.now then
    push2(own.scheduled, lk.text(ctx, due * 10 + job[PRIORITY]), id)
    if not own.first_due or due < own.first_due then
      own.first_due = due
    end
  else
    push2(own.ready, lk.text(ctx, lk.ready_score(job, due)), id)
  end
end

-- Frees the key, if the job still owns it.
function lk.stage_free_key(ctx, stage, id, key)
  local entry = key ~= '' and call('HGET', ctx.keys.keys, key)
  if entry and (entry == id or sub(entry, 1, #id + 1) == id .. ' ') then
    stage.key_del[#stage.key_del + 1] = key
  end
end

-- The key of a job that has ended well stays taken for a while; only its owner has a say in that.
function lk.stage_keep_key(ctx, stage, ty, id, key)
  if ty.key_for <= 0 then
    return lk.stage_free_key(ctx, stage, id, key)
  end
  local entry = call('HGET', ctx.keys.keys, key)
  if not entry or entry == id then
    local expiry = lk.text(ctx, ctx.now + ty.key_for)
    push2(stage.key_set, key, id .. ' ' .. expiry)
    push2(stage.key_expiry, expiry, key)
  end
end

-- The job has ended well or was called off; `past` is what its bytes say of that.
function lk.stage_finished(ctx, stage, ty, id, past)
  if ty.keep > 0 and ty.keep_for > 0 then
    push2(stage.past_set, id, past)
    push2(of_type(stage, ty).finished, lk.text(ctx, ctx.now), id)
  else
    stage.record_del[#stage.record_del + 1] = id
  end
end

function lk.stage_cancelled(ctx, stage, ty, id, job)
  job[STATE], job[FINISHED] = CANCELLED, ctx.now
  lk.stage_free_key(ctx, stage, id, job[KEY])
  lk.count(stage, 'x', ty, 1)
  lk.stage_finished(ctx, stage, ty, id, lk.write_past(job))
end

function lk.stage_dead(ctx, stage, ty, id, job, reason)
  job[STATE], job[FINISHED], job[REASON] = DEAD, ctx.now, reason
  lk.count(stage, 'd', ty, 1)
  push2(stage.past_set, id, lk.write_past(job))
  push2(stage.dead_add, ctx.now, id)
  push2(of_type(stage, ty).dead, ctx.now, id)
  lk.stage_card(stage, id, job)
end

-- The lease ends, whatever becomes of the job.
function lk.stage_unlease(stage, id, ty)
  stage.lease_del[#stage.lease_del + 1] = id
  stage.running_del[#stage.running_del + 1] = id
  lk.count(stage, 'r', ty, -1)
  if ty.groups then
    local own = of_type(stage, ty)
    own.freed[#own.freed + 1] = id
  end
end

-- Wakes about one worker per job that became ready, and the operator when the line was empty before.
local function announce(ctx, ty, added)
  local lane = ty.lane
  if not lane or ctx.policy.held then
    return
  end
  local room = lk.WAKE_CAP - call('LLEN', lane.wake)
  if room >= 1 then
    local tokens = {}
    for i = 1, min(added, room) do
      tokens[i] = '1'
    end
    call('RPUSH', lane.wake, unpack_list(tokens))
  end
  if call('ZCARD', ty.ready) <= added then
    call('PUBLISH', ctx.keys.wake, 'ready:' .. lane.name)
  end
end
lk.announce = announce

-- Calls `command key values...` unless there are none.
local function write(command, key, values)
  for from = 1, #values, 4000 do
    call(command, key, unpack_list(values, from, min(from + 3999, #values)))
  end
end

-- Deletes the jobs of entries that left an index of finished jobs. An entry may be left over from a lost record whose
-- id was taken again: a job that is live, dead or discarded stays.
function lk.forget_finished(ctx, ids)
  local pasts, gone = call('HMGET', ctx.keys.pasts, unpack_list(ids)), {}
  for i = 1, #ids do
    local state = lk.state_in(pasts[i])
    if state ~= LIVE and state ~= DEAD and state ~= DISCARDED then
      gone[#gone + 1] = ids[i]
    end
  end
  write('HDEL', ctx.keys.jobs, gone)
  write('HDEL', ctx.keys.pasts, gone)
  write('HDEL', ctx.keys.group_of, gone)
end

-- Records and pasts of jobs.
function lk.read_all(ctx, ids)
  return call('HMGET', ctx.keys.jobs, unpack_list(ids)), call('HMGET', ctx.keys.pasts, unpack_list(ids))
end

-- Removes the finished records of a type that are too many; returns how many.
function lk.trim_count(ctx, ty, most)
  local excess = min(call('ZCARD', ty.finished) - ty.keep, most)
  if excess <= 0 then
    return 0
  end
  local popped = call('ZPOPMIN', ty.finished, excess)
  local ids = {}
  for i = 1, #popped, 2 do
    ids[#ids + 1] = popped[i]
  end
  lk.forget_finished(ctx, ids)
  return #ids
end

local function commit_type(ctx, stage, ty)
  local own = stage.types[ty]
  write('ZADD', ty.scheduled, own.scheduled)
  if own.first_due then
    call('ZADD', ctx.keys.next, 'LT', own.first_due, ty.name)
  end
  write('ZADD', ty.dead, own.dead)
  write('ZREM', ty.dead, own.dead_del)
  if own.ready[1] then
    write('ZADD', ty.ready, own.ready)
    if ty.groups then
      lk.line_up(ctx, ty, own.ready)
    end
    announce(ctx, ty, #own.ready / 2)
  end
  if own.finished[1] then
    write('ZADD', ty.finished, own.finished)
    -- Twice as many as came, so that a lowered bound is reached in time; the sweep does the rest.
    lk.trim_count(ctx, ty, #own.finished)
  end
end

local function commit_counts(ctx, stage)
  for _, ty in ipairs(stage.touched) do
    for letter, by in pairs(stage.types[ty].counts) do
      if by ~= 0 then
        call('HINCRBY', ctx.keys.counters, letter .. ':' .. ty.name, by)
      end
    end
  end
end
lk.commit_counts = commit_counts

-- Writes everything but the counters.
function lk.commit_jobs(ctx, stage)
  local keys = ctx.keys
  write('HSET', keys.jobs, stage.record_set)
  write('HDEL', keys.pasts, stage.past_del)
  write('HSET', keys.pasts, stage.past_set)
  write('HSET', keys.leases, stage.lease_set)
  write('ZADD', keys.running, stage.running_add)
  write('HSET', keys.group_of, stage.group_set)
  for i = 1, #stage.class_set, 2 do
    call('HSET', stage.class_set[i], unpack_list(stage.class_set[i + 1]))
  end
  write('HDEL', keys.leases, stage.lease_del)
  write('ZREM', keys.running, stage.running_del)
  write('HSET', keys.keys, stage.key_set)
  write('ZADD', keys.keys_by_expiry, stage.key_expiry)
  write('HDEL', keys.keys, stage.key_del)
  write('ZREM', keys.keys_by_expiry, stage.key_del)
  write('ZADD', keys.dead, stage.dead_add)
  write('ZREM', keys.dead, stage.dead_del)
  if stage.letters then
    lk.commit_letters(ctx, stage.letters)
  end
  -- Before anything is trimmed: a job that goes at once takes the name of its group with it.
  for _, ty in ipairs(stage.touched) do
    local freed = stage.types[ty].freed
    if ty.groups and freed[1] then
      lk.groups_freed(ctx, ty, freed)
    end
  end
  for _, ty in ipairs(stage.touched) do
    commit_type(ctx, stage, ty)
  end
  write('HDEL', keys.jobs, stage.record_del)
  write('HDEL', keys.pasts, stage.record_del)
  write('HDEL', keys.group_of, stage.record_del)
end

function lk.commit(ctx, stage)
  lk.commit_jobs(ctx, stage)
  commit_counts(ctx, stage)
end

-- Counts entries without a readable record.
function lk.damaged(ctx, count)
  if count > 0 then
    call('HINCRBY', ctx.keys.meta, 'x', count)
  end
end

-- Moves jobs that became due into their lines, at most `most`; returns how many moved and whether more are due.
function lk.promote(ctx, most)
  local keys, now = ctx.keys, ctx.now
  local due = call('ZRANGEBYSCORE', keys.next, '-inf', now, 'LIMIT', 0, 32)
  local moved, more = 0, #due == 32
  for _, name in ipairs(due) do
    local ty = lk.type_of(ctx.policy, name)
    local room = most - moved
    if room <= 0 then
      return moved, true
    end
    local found = call('ZRANGEBYSCORE', ty.scheduled, '-inf', now * 10 + 9, 'WITHSCORES', 'LIMIT', 0, room)
    local count = #found / 2
    if count > 0 then
      local ready = {}
      for i = 1, #found, 2 do
        local score = tonumber(found[i + 1])
        local priority = score % 10
        push2(ready, priority * lk.PRIORITY_STEP + (score - priority) / 10, found[i])
      end
      call('ZREMRANGEBYRANK', ty.scheduled, 0, count - 1)
      call('ZADD', ty.ready, unpack_list(ready))
      if ty.groups then
        lk.line_up(ctx, ty, ready)
      end
      announce(ctx, ty, count)
      moved = moved + count
    end
    lk.refresh_next(ctx, ty)
    more = more or count == room
  end
  return moved, more
end

-- Puts the type's next due time right, after jobs left its schedule.
function lk.refresh_next(ctx, ty)
  local head = call('ZRANGE', ty.scheduled, 0, 0, 'WITHSCORES')
  if head[1] then
    call('ZADD', ctx.keys.next, floor(tonumber(head[2]) / 10), ty.name)
  else
    call('ZREM', ctx.keys.next, ty.name)
  end
end
