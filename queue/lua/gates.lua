-- Gates of lanes: what may hold due jobs back. They are asked inside the claim; a job is never restamped for them, so that
-- it goes as soon as its gate opens, and a changed policy counts at once.
--
-- pause: by a person or the policy, until resumed. hold: a dependency said `Retry-After` for the whole lane. circuit: too
-- many failures in a row closed the lane; after a while one job probes. concurrency: as many run as may. rate: GCRA, the
-- generic cell rate algorithm (ITU-T I.371): `limit` jobs per `per`, of which `burst` may come at once.

-- Longest time for which a circuit stays open before the next probe, ms.
local PROBE_MOST = 300000
-- Longest time between the end of a hold and the next word of the dependency, ms, for which it counts as the same one.
local HOLD_GAP = 60000

-- How much further ahead than it was long, ms, a wait may end. Beyond that it began before the clock went back: it is over, or it
-- would last for as long as the step. Small steps make it as much longer.
local CLOCK_SLACK = 60000
-- What each field of the gates hash looks like, by its first letter; beside them stand pauses, and `ungrouped:<type>` (groups.lua).
local FORMS = {h = '^(%d+) (%d+) (%d+)$', t = '^(%d+)$', f = '^(%d+)$', o = '^(%d+) (%d+) (%d+) ?(.*)$'}
-- No time in µs comes near this.
local MOST = 2 ^ 52

-- The gates' state of a call, read once: fields of the gates hash.
--   p, p:<lane> pause {at, by, why}   h:<lane> hold "until since length"   t:<lane> theoretical arrival time, µs
--   f:<lane> failures in a row   o:<lane> circuit "until openings since", and while a probe runs "until openings since id"
local function state_of(ctx)
  if not ctx.gates then
    local raw, gates = call('HGETALL', ctx.keys.gates), {}
    for i = 1, #raw, 2 do
      gates[raw[i]] = raw[i + 1]
    end
    ctx.gates = gates
  end
  return ctx.gates
end
lk.gates = state_of

local function set(ctx, field, value)
  state_of(ctx)[field] = value
  call('HSET', ctx.keys.gates, field, value)
end

local function unset(ctx, field)
  if state_of(ctx)[field] then
    ctx.gates[field] = nil
    call('HDEL', ctx.keys.gates, field)
  end
end

-- Why nothing of the queue is handed out: 'paused', 'closed' or false.
function lk.queue_held(ctx)
  return ctx.policy.held or (state_of(ctx).p and 'paused') or false
end

-- What a field says of a lane, as many values as it has; nil where it is not there, or cannot be read: that counts as none.
local function read(ctx, kind, name)
  local text = state_of(ctx)[kind .. ':' .. name]
  if not text then
    return nil
  end
  local a, b, c, rest = string.match(text, FORMS[kind])
  a, b, c = tonumber(a), tonumber(b), tonumber(c)
  if a and max(a, b or 0, c or 0) < MOST then
    return a, b, c, rest
  end
end

-- When a wait ends that was `length` ms long when it was set; nil where it is over.
function lk.wait_end(ctx, till, length)
  if till and till > ctx.now and till - ctx.now <= length + CLOCK_SLACK then
    return till
  end
end

-- Until when a concurrency key is held, by what is kept of its hold: "until.length", ms. The length has so many digits that as a
-- number it all is the end.
function lk.hold_end(ctx, text)
  local till, length = string.match(text or '', '^(%d+)%.(%d+)$')
  return lk.wait_end(ctx, tonumber(till), tonumber(length))
end

-- Until when a lane is held, and since when.
local function held_till(ctx, name)
  local till, since, length = read(ctx, 'h', name)
  return lk.wait_end(ctx, till, length), since
end

-- How long a circuit waits for its next probe, ms, when it opened for the nth time in a row.
local function probe_wait(circuit, openings)
  return min(circuit.probe * 2 ^ (openings - 1), max(PROBE_MOST, circuit.probe))
end

-- An arrival time that this rate cannot have produced, for it was slower before or the clock went back, says nothing.
local function sound_arrival(ctx, rate, arrival)
  local farthest = ctx.us + rate.burst * rate.per * 1000 / rate.limit + 1000
  return arrival <= farthest and arrival or ctx.us
end

-- How many jobs a rate lets through now, at most `most`; and when the next one may go, ms.
function lk.rate_room(ctx, rate, arrival, most)
  local each = rate.per * 1000 / rate.limit
  arrival = sound_arrival(ctx, rate, arrival)
  local behind = max(0, arrival - ctx.us)
  local tolerance = (rate.burst - 1) * each
  local room = floor((tolerance - behind) / each + 1 + 1e-9)
  if room >= 1 then
    return min(most, room), nil
  end
  return 0, math.ceil((arrival - tolerance) / 1000)
end

-- The arrival time after `count` more jobs.
function lk.rate_spend(ctx, rate, arrival, count)
  return floor(max(sound_arrival(ctx, rate, arrival), ctx.us) + count * rate.per * 1000 / rate.limit)
end

local function running_in(ctx, lane)
  local fields = {}
  for i, ty in ipairs(lane.types) do
    fields[i] = 'r:' .. ty.name
  end
  local running = ctx.handed_out and ctx.handed_out[lane] or 0
  if fields[1] then
    local counts = call('HMGET', ctx.keys.counters, unpack_list(fields))
    for i, ty in ipairs(lane.types) do
      local staged = ctx.uncounted and ctx.uncounted.types[ty]
      running = running + max(0, (tonumber(counts[i]) or 0) + (staged and staged.counts.r or 0))
    end
  end
  return running
end

-- How many jobs the lane's gates let through, at most `most`; where that is none, which gate and until when (ms), if that
-- is known.
function lk.lane_room(ctx, lane, most)
  local name = lane.name
  if state_of(ctx)['p:' .. name] then
    return 0, 'paused'
  end
  local hold = held_till(ctx, name)
  if hold then
    return 0, 'hold', hold
  end
  if lane.circuit then
    local till, openings, _, probe = read(ctx, 'o', name)
    local opens = till and lk.wait_end(ctx, till, probe_wait(lane.circuit, openings))
    if opens then
      return 0, 'circuit', opens
    elseif till and ctx.handed_out and (ctx.handed_out[lane] or 0) > 0 then
      return 0, 'circuit'
    elseif till and probe ~= '' and call('HEXISTS', ctx.keys.leases, probe) == 1 then
      return 0, 'circuit'
    end
    most = till and min(most, 1) or most
  end
  if lane.concurrency then
    local room = lane.concurrency - running_in(ctx, lane)
    if room <= 0 then
      return 0, 'concurrency'
    end
    most = min(most, room)
  end
  if lane.rate then
    local room, opens = lk.rate_room(ctx, lane.rate, read(ctx, 't', name) or 0, most)
    if room == 0 then
      return 0, 'rate', opens
    end
    most = room
  end
  return most
end

-- Jobs of the lane were handed out.
function lk.lane_spent(ctx, lane, count, last_id)
  if lane.rate and count > 0 then
    local arrival = lk.rate_spend(ctx, lane.rate, read(ctx, 't', lane.name) or 0, count)
    set(ctx, 't:' .. lane.name, lk.digits(arrival))
  end
  local till, openings, since = nil, nil, nil
  if lane.circuit and count > 0 then
    till, openings, since = read(ctx, 'o', lane.name)
  end
  if till then
    set(ctx, 'o:' .. lane.name, fmt('%.0f %.0f %.0f %s', till, openings, since, last_id))
  end
end

-- A dependency asked for patience for the whole lane. One that asks anew as soon as it is tried again has held the lane since it
-- asked first: short waits one after the other are one long hold, and no news each.
function lk.hold_lane(ctx, lane, delay)
  local till, since, length = read(ctx, 'h', lane.name)
  local stands = till and (till <= ctx.now and ctx.now - till <= HOLD_GAP or lk.wait_end(ctx, till, length))
  if not stands then
    till, since = 0, ctx.now
    lk.event(ctx, 'held', '', lane.name, 'Retry-After')
  end
  till = max(till, ctx.now + delay)
  set(ctx, 'h:' .. lane.name, fmt('%.0f %.0f %.0f', till, since, till - ctx.now))
end

-- Ends a hold by hand; whether there was one.
function lk.lift_hold(ctx, name)
  local till = held_till(ctx, name)
  unset(ctx, 'h:' .. name)
  return till ~= nil
end

-- An attempt of the lane succeeded: its dependency works.
function lk.circuit_success(ctx, lane)
  if lane.circuit then
    if read(ctx, 'o', lane.name) then
      lk.event(ctx, 'circuit-closed', '', lane.name, '')
    end
    unset(ctx, 'f:' .. lane.name)
    unset(ctx, 'o:' .. lane.name)
  end
end

-- An attempt failed although the job may be right. Enough of these in a row, or a failed probe, open the circuit.
function lk.circuit_failure(ctx, lane, id)
  if not lane.circuit then
    return
  end
  local field, till, openings, since, probe = 'o:' .. lane.name, read(ctx, 'o', lane.name)
  if till then
    -- Jobs that were running when it opened say nothing new.
    if probe == id then
      set(ctx, field, fmt('%.0f %.0f %.0f', ctx.now + probe_wait(lane.circuit, openings + 1), openings + 1, since))
      lk.event(ctx, 'probe-failed', id, lane.name, '')
    end
    return
  end
  local failures = (read(ctx, 'f', lane.name) or 0) + 1
  set(ctx, 'f:' .. lane.name, lk.digits(failures))
  if failures >= lane.circuit.failures then
    set(ctx, field, fmt('%.0f 1 %.0f', ctx.now + probe_wait(lane.circuit, 1), ctx.now))
    lk.event(ctx, 'circuit-opened', id, lane.name, '')
  end
end

-- An attempt failed for good, which speaks of its job and not of the dependency, unless that is in doubt: what probes must succeed.
function lk.circuit_permanent(ctx, lane, id)
  if lane.circuit and read(ctx, 'o', lane.name) then
    lk.circuit_failure(ctx, lane, id)
  else
    lk.circuit_success(ctx, lane)
  end
end

-- Where jobs of a lane with limited concurrency ended, others may start: someone is woken for them.
function lk.wake_for_room(ctx)
  for lane in pairs(ctx.freed or {}) do
    if not lk.queue_held(ctx) and lk.lane_waits(lane) and lk.lane_room(ctx, lane, 1) > 0 and call('EXISTS', lane.wake) == 0 then
      call('RPUSH', lane.wake, '1')
    end
  end
end

local function words(text)
  return type(text) == 'string' and lk.clean(text) or ''
end

-- What holds lanes now, for people: {lane ('' the queue), gate, until or -1, since or -1, by, why}.
function lk.closed_gates(ctx)
  local gates, out = state_of(ctx), {}
  local function paused(lane, raw)
    if raw then
      -- One that cannot be read holds all the same: nobody could find out why nothing goes.
      local pause = lk.decode(raw) or NONE
      local since = type(pause[1]) == 'number' and pause[1] >= 0 and pause[1] or -1
      out[#out + 1] = {lane, 'paused', -1, since, words(pause[2]), words(pause[3])}
    end
  end
  paused('', gates.p)
  for _, lane in ipairs(ctx.policy.lanes) do
    local name = lane.name
    paused(name, gates['p:' .. name])
    local room, gate, till = lk.lane_room(ctx, lane, 1)
    if room == 1 and lane.circuit and read(ctx, 'o', name) then
      -- Half open: the next job, which may go at once, is a probe, and nothing follows before it has ended.
      room, gate, till = 0, 'circuit', ctx.now
    end
    if room == 0 and gate ~= 'paused' then
      local _, since = held_till(ctx, name)
      if gate == 'circuit' then
        since = select(3, read(ctx, 'o', name))
      elseif gate ~= 'hold' then
        since = nil
      end
      out[#out + 1] = {name, gate, till or -1, since or -1, '', ''}
    end
  end
  return out
end

-- Whether the policy has what a field is about. Pauses by hand stay until somebody resumes, also where a lane comes back.
local function has_use(policy, field)
  local kind, name = string.match(field, '^(%a+):(.+)$')
  if kind == 'f' or kind == 'o' then
    return policy.lane[name] and policy.lane[name].circuit
  end
  return not (kind and FORMS[kind]) or policy.lane[name]
end

-- Forgets gates that the policy no longer has.
function lk.forget_gates(ctx)
  for field in pairs(state_of(ctx)) do
    if not has_use(ctx.policy, field) then
      unset(ctx, field)
    end
  end
end

-- Forgets what says nothing: fields that cannot be read, which is damage, and holds from before the clock went back, which would
-- begin anew once it has caught up.
function lk.tidy_gates(ctx)
  local wrong = 0
  for field in pairs(state_of(ctx)) do
    local kind, name = string.match(field, '^(%a):(.+)$')
    if kind and FORMS[kind] then
      local till, _, length = read(ctx, kind, name)
      wrong = wrong + (till and 0 or 1)
      if not till or (kind == 'h' and till > ctx.now and not lk.wait_end(ctx, till, length)) then
        unset(ctx, field)
      end
    end
  end
  lk.damaged(ctx, wrong)
end
