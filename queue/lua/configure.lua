-- lk_configure root policy owner uid created generation adopt(0|1)
--   ->  {applied|unchanged, version} | {stale, generation there} | {foreign, owner there}
--
-- Writes the policy. A newer generation of the same object replaces an older one; a recreated object (another uid, created
-- later) starts over; another owner is refused unless it adopts the queue. Versions rise with the clock, so that a
-- restored older state cannot give two policies the same version.

-- A number from 1 on; or nothing, where that is allowed.
local function is_count(value, optional)
  if value == nil or value == cjson.null then
    return optional == true
  end
  return type(value) == 'number' and value >= 1
end

local function rate_is_sound(rate)
  if type(rate) ~= 'table' then
    return rate == nil or rate == cjson.null
  end
  for _, limit in pairs(type(rate.by) == 'table' and type(rate.by.limits) == 'table' and rate.by.limits or {}) do
    if not is_count(limit) then
      return false
    end
  end
  return is_count(rate.limit) and is_count(rate.perMs) and is_count(rate.burst, true)
end

local function check_policy(text)
  local ok, doc = lk.from_json(text)
  if not ok or type(doc) ~= 'table' then
    return 'it is not valid JSON'
  end
  if type(doc.lanes) ~= 'table' or type(doc.jobTypes) ~= 'table' then
    return 'lanes or jobTypes are missing'
  end
  if type(doc.leaseMs) ~= 'number' or doc.leaseMs < 1 or type(doc.maxPayload) ~= 'number' then
    return 'leaseMs or maxPayload are missing'
  end
  local capacity = doc.capacity
  if type(capacity) == 'table' and not (is_count(capacity.jobs, true) and is_count(capacity.bytes, true)) then
    return 'the capacity has a bound that is no number from 1 on'
  end
  for name, spec in pairs(doc.jobTypes) do
    if type(name) ~= 'string' or type(spec) ~= 'table' or type(spec.lane) ~= 'string' or type(spec.priority) ~= 'number'
      or type(spec.keyForMs) ~= 'number' or type(spec.completed) ~= 'table' or type(spec.completed.keep) ~= 'number'
      or type(spec.completed.forMs) ~= 'number' or (spec.key ~= nil and type(spec.key) ~= 'table') then
      return 'job type ' .. tostring(name) .. ' is incomplete'
    end
    local grouping = spec.concurrencyKey
    local debounce = spec.debounce
    if type(grouping) == 'table' and not (rate_is_sound(grouping.rateLimit) and is_count(grouping.limit, true)) then
      return 'the concurrency key of job type ' .. name .. ' has a bound that is no number from 1 on'
    elseif type(debounce) == 'table' and not (is_count(debounce.waitMs) and is_count(debounce.mostMs)) then
      return 'the debounce of job type ' .. name .. ' is incomplete'
    end
  end
  for _, lane in ipairs(doc.lanes) do
    if type(lane) ~= 'table' or type(lane.name) ~= 'string' then
      return 'a lane has no name'
    end
    local circuit = lane.circuit
    if not (is_count(lane.concurrency, true) and rate_is_sound(lane.rateLimit))
      or (type(circuit) == 'table' and not (is_count(circuit.failures) and is_count(circuit.probeAfterMs))) then
      return 'a gate of lane ' .. lane.name .. ' has a figure that is no number from 1 on'
    end
  end
  local ok_to_use, why = pcall(lk.compile, 'lk:{check/check}', 0, text)
  if not ok_to_use then
    return tostring(why)
  end
end

-- What the stored source says to the new one: nil to go on, else the reply.
local function compare_source(stored, new)
  if not stored.owner then
    return nil
  end
  if stored.owner ~= new.owner then
    return not new.adopt and {'foreign', stored.owner} or nil
  end
  if stored.uid == new.uid then
    return new.generation < stored.generation and {'stale', stored.generation} or nil
  end
  -- Two objects made within one second of the clock: the one that was replaced is not the newer one.
  local older = new.created < stored.created or (new.created == stored.created and new.uid == stored.replaced)
  return older and {'stale', stored.generation} or nil
end

-- The version is nil, and generation and time are those of nobody, where there is none or something else wrote there.
local function read_stored(keys)
  local m = call('HMGET', keys.meta, 'v', 'owner', 'uid', 'created', 'generation', 's', 'replaced')
  return {
    version = lk.whole(m[1]), owner = m[2], uid = m[3], created = lk.whole(m[4]) or 0,
    generation = lk.whole(m[5]) or 0, salt = lk.read_salt(m[6]), replaced = m[7],
  }
end

-- Wake lists of lanes that are gone hold nothing of value.
local function forget_lanes(keys, old, new)
  for name, lane in pairs(old and old.lane or {}) do
    if not new.lane[name] then
      call('DEL', lane.wake)
      call('HDEL', keys.meta, 'b:' .. name)
    end
  end
end

-- Types that the policy no longer has stay known while they have jobs. The last may end after the policy was written, so sweeps ask too.
function lk.forget_types(ctx)
  local keys = ctx.keys
  for _, name in ipairs(call('SMEMBERS', keys.types)) do
    if not ctx.policy.types[name] then
      local ty = lk.type_of(ctx.policy, name)
      local used = call('EXISTS', ty.ready, ty.scheduled, ty.finished, ty.dead, ty.discarded)
      local running = tonumber(call('HGET', keys.counters, 'r:' .. name)) or 0
      if used == 0 and running <= 0 then
        call('SREM', keys.types, name)
        for _, letter in ipairs({'e', 's', 'f', 'd', 'x', 'a', 'b', 'r'}) do
          call('HDEL', keys.counters, letter .. ':' .. name)
        end
      end
    end
  end
end

-- Tokens for what waits and may start now: under a new policy, also in a lane it did not stand in before.
function lk.wake_lanes(ctx)
  if lk.queue_held(ctx) then
    return
  end
  for _, lane in ipairs(ctx.policy.lanes) do
    for _, ty in ipairs(lane.types) do
      local waiting = call('ZCARD', ty.ready)
      local room = lk.WAKE_CAP - lk.tokens_of(ctx, lane)
      for _ = 1, min(waiting, room) do
        call('RPUSH', lane.wake, '1')
      end
    end
  end
end

-- A lease that was shortened stays in force until every worker has heard of it (see lk.lease_now).
local function keep_longer_lease(keys, now, old, new)
  local known = call('HMGET', keys.meta, 'lp', 'lu')
  local before = lk.lease_now(old, now, tonumber(known[1]), tonumber(known[2]))
  if old > new then
    call('HSET', keys.meta, 'lp', lk.digits(before), 'lu', lk.digits(now + lk.LEASE_GRACE * before))
  end
end

local function write_policy(keys, stored, text, new, us)
  local now = floor(us / 1000)
  local version = max((stored.version or 0) + 1, now)
  -- Above the largest there is none that could be told from the next.
  if version >= lk.NOT_WHOLE then
    version = now
  end
  local old_text = call('GET', keys.policy)
  local ok, old = pcall(lk.compile, keys.root, 0, old_text or '')
  call('SET', keys.policy, text)
  -- The salt keeps ids of different queues apart; any digits do that differ between places and times of birth.
  local salt = stored.salt or sub(lk.base32(tonumber(sub(redis.sha1hex(keys.root .. lk.digits(us)), 1, 8), 16), 8), 6)
  call('HSET', keys.meta, 'v', lk.digits(version), 'owner', new.owner, 'uid', new.uid, 'created', lk.digits(new.created),
    'generation', lk.digits(new.generation), 's', salt)
  if stored.uid and stored.uid ~= new.uid then
    call('HSET', keys.meta, 'replaced', stored.uid)
  end
  local policy = lk.compile(keys.root, version, text)
  for name in pairs(policy.types) do
    call('SADD', keys.types, name)
  end
  for name in pairs(policy.lane) do
    -- Of which lanes there are wake lists is told without the policy too.
    call('HSETNX', keys.meta, 'b:' .. name, 0)
  end
  if ok and old then
    keep_longer_lease(keys, now, old.lease, policy.lease)
  end
  forget_lanes(keys, ok and old or nil, policy)
  local ctx = {keys = keys, policy = policy}
  lk.forget_types(ctx)
  lk.forget_gates(ctx)
  lk.note_groups(ctx, ok and old or nil)
  lk.wake_lanes(ctx)
  lk.event(ctx, 'policy', '', '', 'version ' .. lk.digits(version) .. ' by ' .. lk.clip(lk.clean(new.owner), 128))
  call('PUBLISH', keys.wake, 'policy')
  return version
end

local function configure(keys, args)
  lk.boot()
  local root = keys[1]
  if #keys ~= 1 or not find(root, '^lk:{[^{}]+}$') or #args ~= 6 then
    return lk.error('LKARGS', 'lk_configure takes the root and policy, owner, uid, created, generation, adopt')
  end
  local text = args[1]
  local new = {owner = args[2], uid = args[3], created = tonumber(args[4]), generation = tonumber(args[5]),
    adopt = args[6] == '1'}
  local why = (new.owner == '' and 'the owner is empty') or (not (new.created and new.generation) and
    'created and generation must be numbers') or check_policy(text)
  if why then
    return lk.error('LKPOLICY', 'the policy was refused: ' .. why)
  end
  local time = call('TIME')
  local own = lk.keys_of(root)
  local stored = read_stored(own)
  local refusal = compare_source(stored, new)
  if refusal then
    return refusal
  end
  if stored.version and stored.owner == new.owner and stored.uid == new.uid and stored.generation == new.generation
    and call('GET', own.policy) == text then
    return {'unchanged', stored.version}
  end
  return {'applied', write_policy(own, stored, text, new, time[1] * 1000000 + time[2])}
end

-- lk_policy root  ->  {policy as JSON, version}, an empty list when there is none, or BADPOLICY where the version cannot be read
local function read_policy(keys)
  local root, wrong = keys[1], lk.wrong_root(keys)
  if wrong then
    return wrong
  end
  local version = redis.call('HGET', root .. ':m', 'v')
  local text = redis.call('GET', root .. ':p')
  if not version or not text then
    return {}
  end
  local number = lk.whole(version)
  return number and {text, number} or lk.bad_version(root)
end

lk.register('lk_configure', configure, {'allow-oom'})
lk.register('lk_policy', read_policy, {'no-writes'})
