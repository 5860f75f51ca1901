-- How much a queue holds, and what makes way. Asked only where the policy sets bounds.

-- Records whose size is looked at in one sweep; what the newest look counts for in the mean.
local SAMPLE, NEWEST = 16, 0.3
-- From this part of a bound on, completed records make way before their time.
local PRESSURE = 0.9

-- Records, and their bytes as far as that has been estimated.
function lk.volume(ctx)
  local jobs, mean = call('HLEN', ctx.keys.jobs), tonumber(call('HGET', ctx.keys.meta, 'sz'))
  return jobs, mean and floor(jobs * mean) or nil
end

-- Whether not even a job without a payload fits in.
function lk.is_full(ctx)
  local capacity = ctx.policy.capacity
  local jobs, bytes = lk.volume(ctx)
  return capacity and ((capacity.jobs and jobs >= capacity.jobs) or (capacity.bytes and (bytes or 0) >= capacity.bytes)) or false
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

-- How many records too many the queue would have with these specs.
local function too_many(capacity, specs, jobs, bytes)
  local more, payload = 0, 0
  for _, spec in ipairs(specs) do
    if not spec.first then
      more, payload = more + 1, payload + #spec.payload
    end
  end
  local over = capacity.jobs and jobs + more - capacity.jobs or 0
  if capacity.bytes and bytes > 0 then
    over = max(over, math.ceil((bytes + payload - capacity.bytes) / bytes * jobs))
  end
  return max(0, min(over, lk.MAX_BATCH))
end

-- What a full queue holds, for people: dead letters count until somebody replays or discards them, discarded ones as long as
-- `dead.keepReviewedFor` says.
local function holding(ctx, what)
  return fmt('the queue holds %s, of them %.0f dead letters and %.0f discarded ones, and its capacity is ', what,
    call('ZCARD', ctx.keys.dead), call('ZCARD', ctx.keys.discarded))
end

-- Of the specs those that fit in, in order; the others are refused. What takes another job's place always fits. Finished records
-- make way first.
function lk.fitting(ctx, specs, replies)
  local capacity = ctx.policy.capacity
  if not capacity then
    return specs
  end
  local jobs, bytes = lk.volume(ctx)
  if lk.make_room(ctx, too_many(capacity, specs, jobs, bytes or 0)) > 0 then
    jobs, bytes = lk.volume(ctx)
  end
  local fitting = {}
  bytes = bytes or 0
  for _, spec in ipairs(specs) do
    local why
    if spec.first then
      why = nil
    elseif capacity.jobs and jobs >= capacity.jobs then
      why = holding(ctx, lk.digits(jobs) .. ' jobs') .. lk.digits(capacity.jobs)
    elseif capacity.bytes and bytes + #spec.payload > capacity.bytes then
      why = holding(ctx, 'about ' .. lk.digits(bytes) .. ' bytes') .. lk.digits(capacity.bytes)
    else
      jobs, bytes = jobs + 1, bytes + #spec.payload
    end
    if why then
      replies[spec.at] = {false, 'rejected:queue-full', why}
    else
      fitting[#fitting + 1] = spec
    end
  end
  return fitting
end

-- Estimates the mean size of a record, where the policy asks for bytes.
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
    call('HSET', ctx.keys.meta, 'sz', fmt('%.1f', last and last + NEWEST * (mean - last) or mean))
  end
end

-- How many records the queue has above the part of its capacity from which completed ones make way.
function lk.pressure(ctx)
  local capacity = ctx.policy.capacity
  if not capacity then
    return 0
  end
  local jobs, bytes = lk.volume(ctx)
  local over = capacity.jobs and jobs - PRESSURE * capacity.jobs or 0
  if capacity.bytes and bytes and bytes > 0 then
    over = max(over, (bytes - PRESSURE * capacity.bytes) / bytes * jobs)
  end
  return max(0, math.ceil(over))
end
