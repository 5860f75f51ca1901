-- How much a queue holds, and what makes way. Asked only where the policy sets bounds.

-- Records whose size is looked at in one sweep; what the newest look counts for in the mean.
local SAMPLE, NEWEST = 16, 0.3
-- From this part of a bound on, completed records make way before their time.
local PRESSURE = 0.9
-- How often one call looks whether enough has made way.
local ROUNDS = 8
-- Bytes of a plain record's header and id, about.
local HEADER = 36

-- Records, and where the policy bounds them their bytes, as far as those have been estimated.
function lk.volume(ctx)
  local capacity, jobs = ctx.policy.capacity, call('HLEN', ctx.keys.jobs)
  local mean = capacity and capacity.bytes and tonumber(call('HGET', ctx.keys.meta, 'sz'))
  return jobs, mean and floor(jobs * mean) or nil
end

-- How many records stand above a part of the bounds, or would with `more` of them that have so many bytes of payload.
local function excess(ctx, part, more, payload)
  local capacity, jobs, bytes = ctx.policy.capacity, lk.volume(ctx)
  local over = capacity.jobs and jobs + more - part * capacity.jobs or 0
  if bytes and bytes > 0 then
    over = max(over, (bytes + payload - part * capacity.bytes) / bytes * jobs)
  end
  return max(0, math.ceil(over))
end

-- How many records the queue has above the part of its bounds from which completed ones make way.
function lk.pressure(ctx)
  return ctx.policy.capacity and excess(ctx, PRESSURE, 0, 0) or 0
end

-- Whether not even a job without a payload fits in.
function lk.is_full(ctx)
  local capacity = ctx.policy.capacity
  if not capacity then
    return false
  end
  local jobs, bytes = lk.volume(ctx)
  return (capacity.jobs and jobs >= capacity.jobs) or (capacity.bytes and (bytes or 0) >= capacity.bytes) or false
end

-- Records are about to go, and with them what each of them counted for when it came: those that stay have another mean size.
function lk.reckon_without(ctx, ids)
  local jobs, bytes = lk.volume(ctx)
  if not bytes or bytes == 0 or jobs <= #ids then
    return
  end
  for _, id in ipairs(ids) do
    bytes = bytes - call('HSTRLEN', ctx.keys.jobs, id) - #id
  end
  jobs = jobs - #ids
  call('HSET', ctx.keys.meta, 'sz', fmt('%.3f', max(HEADER, bytes / jobs)))
end

-- Removes finished records before their time, of every type in proportion, at most `excess`; returns how many.
function lk.make_room(ctx, excess)
  if excess <= 0 then
    return 0
  end
  local names, all, removed = call('SMEMBERS', ctx.keys.types), 0, 0
  table.sort(names)
  for _, name in ipairs(names) do
    all = all + call('ZCARD', lk.type_of(ctx.policy, name).finished)
  end
  for _, name in ipairs(names) do
    local ty = lk.type_of(ctx.policy, name)
    local share = math.ceil(excess * call('ZCARD', ty.finished) / max(1, all))
    removed = removed + lk.pop_finished(ctx, ty, min(share, excess - removed))
  end
  return removed
end

-- What a full queue holds, for people: dead letters count until somebody replays or discards them, discarded ones as long as
-- `dead.keepReviewedFor` says.
local function holding(ctx, out, what, most)
  out.letters = out.letters or fmt(' (dead letters: %.0f, discarded: %.0f), and its capacity is ',
    call('ZCARD', ctx.keys.dead), call('ZCARD', ctx.keys.discarded))
  return 'the queue holds ' .. what .. out.letters .. lk.digits(most)
end

-- Estimates the mean size of a record by a look at some, where the policy asks for bytes.
function lk.estimate(ctx)
  local capacity = ctx.policy.capacity
  if not (capacity and capacity.bytes) then
    return
  end
  local ids, bytes = call('HRANDFIELD', ctx.keys.jobs, SAMPLE), 0
  for _, id in ipairs(ids) do
    bytes = bytes + call('HSTRLEN', ctx.keys.jobs, id) + call('HSTRLEN', ctx.keys.pasts, id) + #id
  end
  if ids[1] then
    local last, mean = tonumber(call('HGET', ctx.keys.meta, 'sz')), bytes / #ids
    call('HSET', ctx.keys.meta, 'sz', fmt('%.3f', last and last + NEWEST * (mean - last) or mean))
  end
end

-- About the bytes that a job will take, its id and header included; of one that takes another's place, what its payload has more
-- than the other's.
local function size_of(spec)
  if spec.first then
    return #spec.payload - spec.frees
  end
  return #spec.payload + #(spec.key or '') + HEADER
end

-- Removes as many finished records as stand in the way of the specs, as far as one call may; none for jobs that could not be put
-- in line.
local function make_way_for(ctx, specs)
  local more, bytes, types = 0, 0, {}
  for i, spec in ipairs(specs) do
    more, bytes, types[i] = more + (spec.first and 0 or 1), bytes + max(0, size_of(spec)), spec.ty
  end
  local left = lk.MAX_BATCH
  -- Again where those that went were smaller than most.
  for round = 1, ROUNDS do
    local over = min(excess(ctx, 1, more, bytes), left)
    if over > 0 and round == 1 then
      lk.require_places(ctx, types)
    end
    local removed = lk.make_room(ctx, over)
    if removed == 0 then
      break
    end
    left = left - removed
  end
end

-- Of the specs those that fit in, in order; the others are refused. What takes another job's place fits where it is no larger than
-- that, or as much larger as there is room for. Finished records make way first.
function lk.fitting(ctx, specs, replies)
  local capacity = ctx.policy.capacity
  if not capacity then
    return specs
  end
  if capacity.bytes and call('HEXISTS', ctx.keys.meta, 'sz') == 0 then
    lk.estimate(ctx)
  end
  make_way_for(ctx, specs)
  local fitting, said, jobs, bytes = {}, {}, lk.volume(ctx)
  bytes = bytes or 0
  local before = bytes
  for _, spec in ipairs(specs) do
    local why, size = nil, size_of(spec)
    if not spec.first and capacity.jobs and jobs >= capacity.jobs then
      why = holding(ctx, said, lk.digits(jobs) .. ' jobs', capacity.jobs)
    elseif capacity.bytes and bytes + size > capacity.bytes and not (spec.first and size <= 0) then
      why = holding(ctx, said, 'about ' .. lk.digits(bytes) .. ' bytes', capacity.bytes)
    end
    if why then
      replies[spec.at] = {false, 'rejected:queue-full', why}
    else
      jobs, bytes = jobs + (spec.first and 0 or 1), max(0, bytes + size)
      fitting[#fitting + 1] = spec
    end
  end
  if capacity.bytes and jobs > 0 and bytes ~= before then
    -- What comes between two looks would else count for nothing.
    call('HSET', ctx.keys.meta, 'sz', fmt('%.3f', bytes / jobs))
  end
  return fitting
end
