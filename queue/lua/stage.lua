-- Staged writes. A transition decides on everything first and stages what it wants; `lk.commit` then writes it in
-- few, batched commands. Nothing can be refused half-way, because everything was checked before; but a key may be damaged.
-- Once records, pasts and leases are written the call has happened: what a sweep can mend or nobody misses costs no reply.

-- A list that is asked for comes to be, and is known to `has`: most calls use few of the many there are, and tables are
-- what Lua's collector works on.
local lists = {__index = function(owner, name)
  local list = {}
  owner[name], owner.has[name] = list, list
  return list
end}

function lk.stage()
  return setmetatable({has = {}, types = {}, touched = {}}, lists)
end

-- Counts damage that was met, whatever became of it: entries without a readable record, which are dropped, entries that were
-- lost and put back, keys of another type. It never falls.
function lk.damaged(ctx, count)
  if count > 0 then
    -- A count that something else overwrote begins anew.
    if type(redis.pcall('HINCRBY', ctx.keys.meta, 'x', count)) ~= 'number' then
      redis.pcall('HSET', ctx.keys.meta, 'x', count)
    end
  end
end

-- A part of a call failed that the call does without: counted as damage, and told now and then.
function lk.failed(ctx, failure)
  lk.damaged(ctx, 1)
  lk.tell_failure(ctx, failure)
end

local function outcome(ctx, ok, ...)
  if not ok then
    lk.failed(ctx, (...))
    return false
  end
  return true, ...
end

-- Does `work(ctx, ...)`, whose failing must not cost the call its reply. Whether it went well, and what it returned.
function lk.try(ctx, work, ...)
  return outcome(ctx, pcall(work, ctx, ...))
end

-- What a command answers that gives a number; nil, and damage is counted, where its key is of another type.
function lk.number(ctx, ...)
  local found = redis.pcall(...)
  if type(found) == 'number' then
    return found
  end
  lk.damaged(ctx, 1)
end

-- The staged index changes of one type.
local function of_type(stage, ty)
  local own = stage.types[ty]
  if not own then
    own = setmetatable({has = {}, counts = {}, first_due = false}, lists)
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
function lk.stage_waiting(ctx, stage, ty, id, priority, due)
  local own = of_type(stage, ty)
  if due > ctx.now then
    push2(own.scheduled, lk.text(ctx, due * 10 + priority), id)
    if not own.first_due or due < own.first_due then
      own.first_due = due
    end
  else
    push2(own.ready, lk.text(ctx, lk.ready_score(priority, due)), id)
  end
end

-- The key is free, if the job still owns it.
function lk.stage_free_key(stage, id, key)
  if key ~= '' then
    local ended = stage.ended_keys
    ended[#ended + 1] = {key, id}
  end
end

-- The key of a job that has ended well stays taken for a while; only its owner has a say in that.
function lk.stage_keep_key(ctx, stage, ty, id, key)
  local ended = stage.ended_keys
  ended[#ended + 1] = {key, id, ty.key_for > 0 and lk.text(ctx, ctx.now + ty.key_for) or nil}
end

-- Whose keys they are is read at once for all jobs that ended: {key, id, how long it stays taken}.
local function end_keys(ctx, stage, ended)
  local names = {}
  for i, end_of in ipairs(ended) do
    names[i] = end_of[1]
  end
  for i, entry in ipairs(call('HMGET', ctx.keys.keys, unpack_list(names))) do
    local key, id, till = ended[i][1], ended[i][2], ended[i][3]
    if till and (not entry or entry == id) then
      push2(stage.key_set, key, id .. ' ' .. till)
      push2(stage.key_expiry, till, key)
    elseif not till and entry and (entry == id or sub(entry, 1, #id + 1) == id .. ' ') then
      stage.key_del[#stage.key_del + 1] = key
    end
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

function lk.stage_cancelled(ctx, stage, ty, id, job, by)
  job[STATE], job[FINISHED] = CANCELLED, ctx.now
  lk.stage_free_key(stage, id, job[KEY])
  lk.count(stage, 'x', ty, 1)
  lk.stage_event(stage, 'cancelled', id, ty, by)
  lk.stage_finished(ctx, stage, ty, id, lk.write_past(job))
end

function lk.stage_dead(ctx, stage, ty, id, job, reason)
  job[STATE], job[FINISHED], job[REASON] = DEAD, ctx.now, reason
  lk.count(stage, 'd', ty, 1)
  lk.stage_event(stage, 'dead', id, ty, reason)
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

-- What this server remembers of lanes, by wake list: when somebody last looked whether the operator must be told of waiting
-- jobs, and when a worker last asked for jobs, ms. When in doubt the operator is told again.
local seen, seen_count = {}, 0

local function seen_of(lane)
  local lately = seen[lane.wake]
  if not lately then
    if seen_count >= 4096 then
      seen, seen_count = {}, 0
    end
    lately = {told = -lk.TELL, asked = -lk.ASKED}
    seen[lane.wake] = lately
    seen_count = seen_count + 1
  end
  return lately
end

-- A worker asks for jobs of the lane.
function lk.asked_for(ctx, lane)
  seen_of(lane).asked = ctx.now
end

-- Tells the operator of jobs that nobody knew of before; where workers are at hand, not at each of many.
local function tell(ctx, ty, added, tokens)
  local lately, now = seen_of(ty.lane), ctx.now
  local since = now - lately.told
  if since >= 0 and since < lk.TELL and now - lately.asked < lk.ASKED then
    return
  end
  lately.told = now
  -- Tokens may stand for jobs that were called off.
  if tokens == 0 or call('ZCARD', ty.ready) <= added then
    call('PUBLISH', ctx.keys.wake, 'ready:' .. ty.lane.name)
  end
end

-- How many tokens wake workers of the lane. What is no list holds nothing of value and would wake nobody ever again.
function lk.tokens_of(ctx, lane)
  local tokens = lk.number(ctx, 'LLEN', lane.wake)
  if not tokens then
    call('DEL', lane.wake)
  end
  return tokens or 0
end

-- Wakes about one worker per job that became ready, and the operator when nobody knew of waiting jobs before.
function lk.announce(ctx, ty, added)
  local lane = ty.lane
  if not lane or ctx.policy.held then
    return
  end
  local tokens = lk.tokens_of(ctx, lane)
  tell(ctx, ty, added, tokens)
  local room = min(added, lk.WAKE_CAP - tokens)
  if room == 1 then
    call('RPUSH', lane.wake, '1')
  elseif room > 1 then
    local more = {}
    for i = 1, room do
      more[i] = '1'
    end
    call('RPUSH', lane.wake, unpack_list(more))
  end
end

-- Workers that wait know when the next scheduled job falls due: one that comes before it is told to one of them.
local function tell_due(ctx, ty, due)
  local known = lk.next_scheduled(ctx)
  if ty.lane and not (known and known <= due) and call('EXISTS', ty.lane.wake) == 0 then
    call('RPUSH', ty.lane.wake, '1')
  end
end

-- Calls `command key values...` unless there are none.
local function write(command, key, values)
  local count = values and #values or 0
  for from = 1, count, 4000 do
    call(command, key, unpack_list(values, from, min(from + 3999, count)))
  end
end
lk.write = write

-- Deletes all that is kept of jobs beside their places in indexes; nothing where there are none.
function lk.forget_jobs(ctx, ids)
  local keys = ctx.keys
  write('HDEL', keys.jobs, ids)
  write('HDEL', keys.pasts, ids)
  write('HDEL', keys.group_of, ids)
  if ctx.notes and ids and ids[1] then
    lk.forget_notes_of(ctx, ids)
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
  if ctx.policy.capacity then
    lk.reckon_without(ctx, gone)
  end
  lk.forget_jobs(ctx, gone)
end

-- Removes the oldest finished records of a type, at most `most`; returns how many.
function lk.pop_finished(ctx, ty, most)
  -- Not popped: that would tell their scores, and Redis takes long to write numbers.
  local ids = most > 0 and call('ZRANGE', ty.finished, 0, most - 1) or NONE
  if ids[1] then
    call('ZREMRANGEBYRANK', ty.finished, 0, #ids - 1)
    -- What is left of them where that fails, sweeps find.
    lk.try(ctx, lk.forget_finished, ids)
  end
  return #ids
end

-- Removes the finished records of a type that are too many, at most `most`, unless they are `slack` or fewer; returns how
-- many.
function lk.trim_count(ctx, ty, most, slack)
  local excess = call('ZCARD', ty.finished) - ty.keep
  return excess > slack and lk.pop_finished(ctx, ty, min(excess, most)) or 0
end

local function commit_type(ctx, stage, ty)
  local own = stage.types[ty]
  local has = own.has
  write('ZADD', ty.scheduled, has.scheduled)
  if own.first_due then
    tell_due(ctx, ty, own.first_due)
    call('ZADD', ctx.keys.next, 'LT', own.first_due, ty.name)
  end
  write('ZADD', ty.dead, has.dead)
  write('ZREM', ty.dead, has.dead_del)
  if has.ready then
    write('ZADD', ty.ready, has.ready)
    if ty.groups then
      lk.line_up(ctx, ty, has.ready)
    end
    lk.announce(ctx, ty, #has.ready / 2)
  end
  if has.finished then
    write('ZADD', ty.finished, has.finished)
    -- Now and then, many at once; at least twice as many as came, so that a lowered bound is reached in time. The sweep does the rest.
    lk.trim_count(ctx, ty, max(#has.finished, ty.slack), ty.slack)
  end
end

local function count_all(ctx, stage)
  for _, ty in ipairs(stage.touched) do
    for letter, by in pairs(stage.types[ty].counts) do
      if by ~= 0 then
        local field = letter .. ':' .. ty.name
        if not lk.number(ctx, 'HINCRBY', ctx.keys.counters, field, by) then
          -- A count that something else overwrote begins anew.
          call('HSET', ctx.keys.counters, field, max(0, by))
        end
      end
    end
  end
end

function lk.commit_counts(ctx, stage)
  lk.try(ctx, count_all, stage)
end

-- Whose keys are whose, who is dead, and what is told of jobs beside their records.
local function commit_beside(ctx, stage)
  local keys, has = ctx.keys, stage.has
  write('HDEL', keys.group_of, has.group_del)
  write('HSET', keys.group_of, has.group_set)
  if has.notes then
    lk.commit_notes(ctx, has.notes)
  end
  if has.class_set then
    lk.commit_classes(ctx, has.class_set)
  end
  if has.ended_keys then
    end_keys(ctx, stage, has.ended_keys)
  end
  write('HSET', keys.keys, has.key_set)
  write('ZADD', keys.keys_by_expiry, has.key_expiry)
  write('HDEL', keys.keys, has.key_del)
  write('ZREM', keys.keys_by_expiry, has.key_del)
  write('ZADD', keys.dead, has.dead_add)
  write('ZREM', keys.dead, has.dead_del)
  if has.letters then
    lk.commit_letters(ctx, has.letters)
  end
end

-- Writes everything but the counters.
function lk.commit_jobs(ctx, stage)
  local keys, has = ctx.keys, stage.has
  write('HSET', keys.jobs, has.record_set)
  write('HDEL', keys.pasts, has.past_del)
  write('HSET', keys.pasts, has.past_set)
  write('HSET', keys.leases, has.lease_set)
  write('ZADD', keys.running, has.running_add)
  write('HDEL', keys.leases, has.lease_del)
  write('ZREM', keys.running, has.running_del)
  lk.try(ctx, commit_beside, stage)
  -- Before anything is trimmed: a job that goes at once takes the name of its group with it.
  for _, ty in ipairs(stage.touched) do
    local freed = stage.types[ty].has.freed
    if ty.groups and freed then
      lk.try(ctx, lk.groups_freed, ty, freed)
    end
  end
  for _, ty in ipairs(stage.touched) do
    lk.try(ctx, commit_type, stage, ty)
  end
  lk.try(ctx, lk.forget_jobs, has.record_del)
  if has.events then
    lk.commit_events(ctx, has.events)
  end
end

function lk.commit(ctx, stage)
  lk.commit_jobs(ctx, stage)
  lk.commit_counts(ctx, stage)
end
