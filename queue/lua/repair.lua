-- Damage by hand or by a lost key: every job stands in exactly one index, and every lease has its expiry. A sweep counts
-- both sides; where something is missing it goes through all jobs, a bounded step at a time, and puts it back. Eight jobs
-- picked at random are looked at in any case, for what the sums do not show.

-- Bytes of records one step may read, about; most leases that are counted at once.
local STEP_BYTES, COUNT_LEASES = 1048576, 5000

-- How many members an index has; what is none has none.
local function size_of(ctx, key)
  return lk.number(ctx, 'ZCARD', key) or 0
end

local function missing(key, id)
  return call('ZSCORE', key, id) == false
end

-- Puts a live job without a lease back in line, if it stands in none.
local function mend_waiting(ctx, stage, ty, id, job)
  local ready, scheduled = not missing(ty.ready, id), not missing(ty.scheduled, id)
  if not ready and not scheduled then
    lk.stage_waiting(ctx, stage, ty, id, job[PRIORITY], lk.due_of(job))
    return true
  end
  -- Where the type came to have a key a moment ago, lk.regroup sees to the line.
  if ready and ty.groups and not lk.gates(ctx)['ungrouped:' .. ty.name] then
    local group = lk.groups_of(ctx, {id})[1]
    -- A group that stands neither among those that may go nor aside would wait until something else of it moves.
    if missing(ty.groups.line_of .. group, id)
      or (missing(ty.groups.turns, group) and missing(ty.groups.aside, group)) then
      lk.line_up(ctx, ty, {call('ZSCORE', ty.ready, id), id})
      return true
    end
  end
  return false
end

-- Says again which group a live job is in. Those that run since before their type had a key have none, so this is no damage, but worth
-- a look at all others; they were counted in the nameless group, and count in their own now.
local function mend_group(ctx, ty, id, raw, at, runs)
  if not ty.groups or call('HEXISTS', ctx.keys.group_of, id) == 1 then
    return
  end
  local group = lk.group_in(ty, raw, at)
  call('HSET', ctx.keys.group_of, id, group)
  ctx.suspicious = true
  if runs then
    lk.group_found(ctx, ty, group)
  end
end

-- A key that answers `duplicate` for a while after the success stands in two places; one tells of the other. Nothing is
-- reckoned from the policy, which may have changed since: a key whose time was over must not come back.
local function mend_kept_key(ctx, id, job)
  local keys, key = ctx.keys, job[KEY]
  local expiry = call('ZSCORE', keys.keys_by_expiry, key)
  if expiry then
    expiry = tonumber(expiry)
    return expiry > ctx.now and call('HSETNX', keys.keys, key, id .. ' ' .. lk.digits(expiry)) == 1
  end
  -- Whoever it is that keeps it.
  local kept = string.match(call('HGET', keys.keys, key) or '', ' (%d+)$')
  return kept and call('ZADD', keys.keys_by_expiry, kept, key) == 1
end

-- Puts right what stands wrong about one job; whether anything did, and whether it can be read at all.
local function mend(ctx, stage, id, raw, past)
  local job, at = lk.read_job(raw, past)
  if not job or not lk.is_id(id) then
    return false, false
  end
  local ty, state, mended = lk.type_of(ctx.policy, job[TYPE]), job[STATE], false
  call('SADD', ctx.keys.types, ty.name)
  if state == DEAD or state == DISCARDED then
    mended = lk.mend_letter(ctx, ty, id, job)
  elseif state ~= LIVE then
    mended = call('ZADD', ty.finished, 'NX', lk.digits(job[FINISHED]), id) == 1
    if state == SUCCEEDED then
      mended = mend_kept_key(ctx, id, job) or mended
    end
  else
    local runs = call('HEXISTS', ctx.keys.leases, id) == 1
    mend_group(ctx, ty, id, raw, at, runs)
    mended = not runs and mend_waiting(ctx, stage, ty, id, job)
  end
  if job[KEY] ~= '' and (state == LIVE or state == DEAD) then
    mended = call('HSETNX', ctx.keys.keys, job[KEY], id) == 1 or mended
  end
  return mended, true
end

-- How many were mended, and how many cannot be read.
local function mend_all(ctx, ids, records)
  local pasts, stage, found = call('HMGET', ctx.keys.pasts, unpack_list(ids)), lk.stage(), 0
  local unreadable = 0
  for i, id in ipairs(ids) do
    -- Where an index cannot be written its jobs count as unreadable: looking again at once would change nothing.
    local ok, mended, readable = pcall(mend, ctx, stage, id, records[i], pasts[i])
    mended, readable = ok and mended, ok and readable
    found = found + (mended and 1 or 0)
    unreadable = unreadable + (readable and 0 or 1)
  end
  lk.commit(ctx, stage)
  lk.damaged(ctx, found)
  return found, unreadable
end

-- A few jobs at random; whether any of them stood wrong.
local function sample(ctx)
  local ids, small, bytes = call('HRANDFIELD', ctx.keys.jobs, 8), {}, 0
  for _, id in ipairs(ids) do
    bytes = bytes + call('HSTRLEN', ctx.keys.jobs, id)
    if bytes > STEP_BYTES then
      break
    end
    small[#small + 1] = id
  end
  if not small[1] then
    return false, bytes
  end
  return mend_all(ctx, small, call('HMGET', ctx.keys.jobs, unpack_list(small))) > 0, bytes / #ids
end

-- One step through all jobs; the cursor is kept in the queue's meta. Returns whether there is more.
local function step(ctx, cursor, size)
  local count = max(1, min(200, floor(STEP_BYTES / max(size, 64))))
  local found = redis.pcall('HSCAN', ctx.keys.jobs, cursor, 'COUNT', count)
  if found.err then
    -- The cursor is none: something else wrote it.
    found = call('HSCAN', ctx.keys.jobs, '0', 'COUNT', count)
  end
  local ids, records = {}, {}
  for i = 1, #found[2], 2 do
    ids[#ids + 1], records[#records + 1] = found[2][i], found[2][i + 1]
  end
  local unreadable = 0
  -- A small hash comes as a whole, whatever COUNT says.
  for from = 1, #ids, 200 do
    local some, theirs = {}, {}
    for i = from, min(from + 199, #ids) do
      some[#some + 1], theirs[#theirs + 1] = ids[i], records[i]
    end
    local _, bad = mend_all(ctx, some, theirs)
    unreadable = unreadable + bad
  end
  unreadable = unreadable + (lk.whole(call('HGET', ctx.keys.meta, 'rn')) or 0)
  if found[1] == '0' then
    -- What nobody can read stands in no index, and that is no reason to look again.
    call('HDEL', ctx.keys.meta, 'rc', 'rn')
    call('HSET', ctx.keys.meta, 'rb', lk.digits(unreadable), 'rd', lk.cards_missing(ctx))
    return false
  end
  call('HSET', ctx.keys.meta, 'rc', found[1], 'rn', lk.digits(unreadable))
  return true
end

-- Leases without an expiry would never be taken over.
local function mend_leases(ctx)
  if call('HLEN', ctx.keys.leases) <= call('ZCARD', ctx.keys.running) then
    return
  end
  local cursor, expiry, missing_ones = '0', lk.digits(ctx.now + ctx.lease), {}
  repeat
    local found = call('HSCAN', ctx.keys.leases, cursor, 'COUNT', 500)
    cursor = found[1]
    for i = 1, #found[2], 2 do
      if #missing_ones < 2000 and missing(ctx.keys.running, found[2][i]) then
        lk.push2(missing_ones, expiry, found[2][i])
      end
    end
  until cursor == '0' or #missing_ones >= 2000
  lk.write('ZADD', ctx.keys.running, missing_ones)
  lk.damaged(ctx, #missing_ones / 2)
end

-- The gauges of running jobs, counted anew where their sum cannot be right.
local function mend_gauges(ctx, names)
  local fields, sum = {}, 0
  for i, name in ipairs(names) do
    fields[i] = 'r:' .. name
  end
  for _, count in ipairs(fields[1] and call('HMGET', ctx.keys.counters, unpack_list(fields)) or {}) do
    sum = sum + (tonumber(count) or 0)
  end
  local leases = call('HLEN', ctx.keys.leases)
  if leases > COUNT_LEASES then
    return
  end
  for i, name in ipairs(names) do
    local ty = lk.type_of(ctx.policy, name)
    if ty.groups then
      local of_groups = 0
      for _, count in ipairs(call('HVALS', ty.groups.running)) do
        of_groups = of_groups + (tonumber(count) or 0)
      end
      if of_groups ~= (tonumber(call('HGET', ctx.keys.counters, fields[i])) or 0) then
        lk.recount_groups(ctx, {ty})
        lk.doubt_type(ctx, ty)
      end
    end
  end
  if sum == leases then
    return
  end
  local counts = {}
  for _, raw in ipairs(call('HVALS', ctx.keys.leases)) do
    local lease = lk.read_lease(raw)
    if lease then
      counts[lease[L_TYPE]] = (counts[lease[L_TYPE]] or 0) + 1
    end
  end
  for _, name in ipairs(names) do
    call('HSET', ctx.keys.counters, 'r:' .. name, counts[name] or 0)
  end
end

-- Types whose schedule nobody looks at, because the key that says when is gone or lacks them; how many jobs stand in indexes, and
-- how many of those as dead and as discarded ones.
local function count_standing(ctx, names)
  local standing, dead, discarded = call('ZCARD', ctx.keys.running), 0, 0
  for _, name in ipairs(names) do
    local ty = lk.type_of(ctx.policy, name)
    local scheduled = size_of(ctx, ty.scheduled)
    if scheduled > 0 and missing(ctx.keys.next, name) then
      lk.refresh_next(ctx, ty)
    end
    standing = standing + scheduled + size_of(ctx, ty.ready) + size_of(ctx, ty.finished)
    dead, discarded = dead + size_of(ctx, ty.dead), discarded + size_of(ctx, ty.discarded)
  end
  return standing + dead + discarded, dead, discarded
end

-- A group that waits for one of its jobs to end, of which none runs, would wait for ever: the end was not noted. All that stand
-- aside are judged anew by the next claims.
local function mend_turns(ctx)
  for _, ty in pairs(ctx.policy.types) do
    if ty.groups then
      local running = call('HLEN', ty.groups.running) - call('HEXISTS', ty.groups.running, '')
      if not lk.doubted(ctx, ty) and call('ZCOUNT', ty.groups.aside, 'inf', 'inf') > running then
        lk.doubt_type(ctx, ty)
        lk.damaged(ctx, 1)
      end
    end
  end
end

-- How many jobs nobody could read at the last look at all. Where fewer stand nowhere now (`stray`), some of them are gone: as many that
-- are lost later must not be taken for them.
local function unreadable_of(ctx, stray)
  local known = tonumber(call('HGET', ctx.keys.meta, 'rb')) or 0
  local unreadable = min(known, max(0, stray))
  if unreadable < known then
    call('HSET', ctx.keys.meta, 'rb', lk.digits(unreadable))
  end
  return unreadable
end

-- Finds and mends damage, as far as one call may; whether there is more to do at once.
function lk.repair(ctx)
  local known = call('SCARD', ctx.keys.types)
  for name in pairs(known == 0 and ctx.policy.types or NONE) do
    call('SADD', ctx.keys.types, name)
  end
  local names = call('SMEMBERS', ctx.keys.types)
  lk.try(ctx, mend_leases)
  lk.try(ctx, mend_gauges, names)
  lk.try(ctx, mend_turns)
  local jobs = call('HLEN', ctx.keys.jobs)
  local cursor = call('HGET', ctx.keys.meta, 'rc')
  local wrong, size = sample(ctx)
  if not cursor then
    local standing, dead, discarded = count_standing(ctx, names)
    lk.forget_leftovers(ctx, standing > jobs)
    local stray = jobs > standing + unreadable_of(ctx, jobs - standing)
    if not (wrong or ctx.suspicious or stray or lk.letters_missing(ctx, dead, discarded)) then
      return false
    end
    cursor = '0'
  end
  return step(ctx, cursor, size)
end
