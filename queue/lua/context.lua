-- The context of one call: time (read once), meta, and the policy in the form the transitions need.

-- Decoded policies by root, valid for one version: decoding JSON on every call would cost more than the call.
local policies, policy_count = {}, 0
local ABSENT_RETENTION = {keep = 1000, forMs = 86400000}

local function number_or_nil(value)
  return type(value) == 'number' and value or nil
end

-- {limit, per in ms, burst}, or nil.
local function compile_rate(spec)
  if type(spec) ~= 'table' then
    return nil
  end
  return {
    limit = max(1, spec.limit), per = max(1, spec.perMs), burst = max(1, number_or_nil(spec.burst) or spec.limit),
    by = type(spec.by) == 'table' and type(spec.by.limits) == 'table' and spec.by or nil,
  }
end

-- The keys that groups of a type have (see groups.lua), whether its policy has a concurrency key or not.
function lk.group_keys(keys, name)
  local base = keys.groups
  return {
    line_of = base .. ':' .. name .. ':', turns = base .. 't:' .. name, aside = base .. 'p:' .. name, running = base .. 'r:' .. name,
    arrivals = base .. 'a:' .. name, holds = base .. 'h:' .. name, classes = base .. 'c:' .. name,
  }
end

local function compile_groups(keys, name, spec)
  if type(spec) ~= 'table' or type(spec.key) ~= 'table' then
    return nil
  end
  local groups = lk.group_keys(keys, name)
  groups.key, groups.limit, groups.rate = spec.key, number_or_nil(spec.limit), compile_rate(spec.rateLimit)
  return groups
end

-- A job type in use form. `spec` is nil for a type that the policy no longer has; its jobs still finish.
local function compile_type(keys, name, lane, spec)
  local retention = spec and spec.completed or ABSENT_RETENTION
  -- What stands in every record of the type behind its first byte: version and type.
  local stamp = sub(pack({1, name}), 2)
  return {
    name = name,
    lane = lane,
    ready = keys.ready_of .. name,
    scheduled = keys.scheduled_of .. name,
    finished = keys.finished_of .. name,
    dead = keys.dead_of .. name,
    discarded = keys.discarded_of .. name,
    priority = spec and spec.priority or 5,
    key = spec and spec.key,
    key_for = spec and spec.keyForMs or 86400000,
    on_conflict = spec and spec.onConflict or 'Existing',
    debounce = spec and type(spec.debounce) == 'table' and {wait = spec.debounce.waitMs, most = spec.debounce.mostMs} or nil,
    on_dead = spec and type(spec.onDead) == 'table' and spec.onDead.type or nil,
    keep = retention.keep,
    -- Finished records beyond `keep` that may stand until the next sweep, so that not every settlement has to trim.
    slack = min(floor(retention.keep / 8), 25),
    keep_for = retention.forMs,
    keep_reviewed = spec and type(spec.dead) == 'table' and number_or_nil(spec.dead.keepReviewedForMs) or nil,
    groups = spec and compile_groups(keys, name, spec.concurrencyKey) or nil,
    stamp = stamp,
    stamp_end = #stamp + 1,
  }
end

local function compile(root, version, text)
  local doc = json.decode(text)
  local keys = lk.keys_of(root)
  local closed = doc.closed ~= cjson.null and doc.closed or nil
  local policy = {
    version = version, keys = keys, paused = doc.paused == true, closed = closed,
    capacity = type(doc.capacity) == 'table' and {jobs = number_or_nil(doc.capacity.jobs), bytes = number_or_nil(doc.capacity.bytes)} or nil,
    max_payload = doc.maxPayload, lease = doc.leaseMs, lanes = {}, lane = {}, types = {}, gone = {},
  }
  policy.held = policy.paused and 'paused' or (closed and 'closed') or false
  for i, lane in ipairs(doc.lanes) do
    local promise = lane.startWithinMs or 60000
    local compiled = {
      name = lane.name, index = i, wake = keys.wake_of .. lane.name, types = {}, promise = promise,
      -- What one level of priority is worth in waiting, ms (see order.lua).
      step = max(lk.STEP_LEAST, min(10 * promise, lk.STEP_MOST)),
      critical = lane.critical == true,
      concurrency = number_or_nil(lane.concurrency),
      rate = compile_rate(lane.rateLimit),
      circuit = type(lane.circuit) == 'table' and {failures = lane.circuit.failures, probe = lane.circuit.probeAfterMs} or nil,
    }
    compiled.gated = (compiled.concurrency or compiled.rate or compiled.circuit) and true or false
    policy.lanes[i] = compiled
    policy.lane[lane.name] = compiled
  end
  for name, spec in pairs(doc.jobTypes) do
    local lane = policy.lane[spec.lane]
    local compiled = compile_type(keys, name, lane, spec)
    policy.types[name] = compiled
    if lane then
      lane.types[#lane.types + 1] = compiled
    end
  end
  return policy
end
lk.compile = compile

-- The type by name, also one that the policy no longer has.
function lk.type_of(policy, name)
  local found = policy.types[name] or policy.gone[name]
  if not found then
    found = compile_type(policy.keys, name, nil, nil)
    policy.gone[name] = found
  end
  return found
end

-- The answer about a policy whose version something else overwrote: its queue is there, with all its jobs.
function lk.bad_version(root)
  return lk.error('BADPOLICY', 'its version (field v of ' .. root .. ':m) is no number that this library writes')
end

local function cached_policy(root, version)
  local policy = policies[root]
  if policy and policy.version == version then
    return policy
  end
  local text = call('GET', root .. ':p')
  if not text then
    return nil
  end
  local ok, compiled = pcall(compile, root, version, text)
  if not ok then
    return nil, lk.error('BADPOLICY', 'what is stored in ' .. root .. ':p is no policy')
  end
  if policy_count >= 256 then
    policies, policy_count = {}, 0
  end
  policies[root], policy_count = compiled, policy_count + 1
  return compiled
end

-- For a queue that is deleted: the next one of its name may have the same version within the same millisecond.
function lk.forget_policy(root)
  policies[root] = nil
end

-- The lease in force. For a while after it was shortened the longer one stays: workers that have not heard of it yet renew
-- in the old rhythm, and must not lose what they hold for that.
local function lease_now(lease, now, longer, till)
  if longer and till and now < till and till - now <= lk.LEASE_GRACE * longer then
    return max(lease, longer)
  end
  return lease
end
lk.lease_now = lease_now

-- No token comes near this, which the clock reaches in the year 2112, µs.
local MOST_TOKEN = 2 ^ 52

-- The last token that was given; and whether that had to be told from the leases, because the counter is none.
local function last_token(ctx, text)
  local token = tonumber(text)
  if not text or (token and token >= 0 and token < MOST_TOKEN) then
    return floor(token or 0), false
  end
  local last = ctx.us
  for _, raw in ipairs(call('HVALS', ctx.keys.leases)) do
    local lease = lk.read_lease(raw)
    last = lease and lease[L_TOKEN] < MOST_TOKEN and max(last, lease[L_TOKEN]) or last
  end
  return last, true
end

-- Opens a call: the context, or nil and an error reply. `serves`: the call is a worker's and deals with leases.
function lk.open(keys, serves)
  lk.boot()
  local root = keys[1]
  local known = #keys == 1 and policies[root]
  local wrong = not known and lk.wrong_root(keys)
  if wrong then
    return nil, wrong
  end
  local time = call('TIME')
  local us = time[1] * 1000000 + time[2]
  local meta_key = known and known.keys.meta or root .. ':m'
  local meta = serves and call('HMGET', meta_key, 'v', 's', 'n', 'a', 't', 'o', 'back', 'lp', 'lu')
    or call('HMGET', meta_key, 'v', 's', 'n')
  local version = lk.whole(meta[1])
  local policy, bad
  if version then
    policy, bad = cached_policy(root, version)
  elseif meta[1] then
    bad = lk.bad_version(root)
  end
  if not policy then
    return nil, bad or lk.error('NOPOLICY', 'queue ' .. sub(root, 5, -2) .. ' has no policy here: apply a JobQueue first')
  end
  -- Callers name what they like: types that the policy does not have are remembered for one call.
  policy.gone = {}
  local ctx = {
    us = us, now = floor(us / 1000), policy = policy, keys = policy.keys, salt = lk.read_salt(meta[2]) or '000', last_us = 0,
    notes = meta[3] and true or false,
  }
  if serves then
    ctx.activity, ctx.outage = tonumber(meta[4]), tonumber(meta[6]) or 0
    ctx.token, ctx.token_lost = last_token(ctx, meta[5])
    ctx.back = tonumber(meta[7])
    ctx.lease = lease_now(policy.lease, ctx.now, tonumber(meta[8]), tonumber(meta[9]))
  end
  return ctx
end

-- The digits of a score or time. Redis would write a Lua number with 17 digits by a slow path; within a call the same few
-- numbers come again and again.
function lk.text(ctx, n)
  if ctx.text_of ~= n then
    ctx.text_of = n
    ctx.text = lk.digits(n)
  end
  return ctx.text
end

-- A new fencing token: above every earlier one, also after an older state was restored.
function lk.new_token(ctx)
  ctx.token = max(ctx.token + 1, ctx.us)
  return ctx.token
end

-- Marks the queue as served now. A gap of more than half a lease, or a clock that went back, is an outage: it cost workers their
-- chance to renew, so leases get one whole lease from its end (see sweep). `back`: when the clock went back, until sweeps have seen
-- to the leases that it left in the far future.
function lk.touch(ctx)
  local last = ctx.activity
  local now = ctx.now
  if ctx.token_lost then
    lk.damaged(ctx, 1)
  end
  if last and now < last then
    ctx.back = now
    call('HSET', ctx.keys.meta, 'back', now)
    lk.doubt_groups(ctx)
  end
  if not last or now < last or now - last > ctx.lease / 2 then
    ctx.outage = now
    call('HSET', ctx.keys.meta, 'a', now, 't', ctx.token, 'o', now)
  else
    call('HSET', ctx.keys.meta, 'a', now, 't', ctx.token)
  end
end
