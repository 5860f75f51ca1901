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

-- The gates' state of a call, read once: fields of the gates hash.
--   p, p:<lane> pause {at, by, why}   h:<lane> hold "until since"   t:<lane> theoretical arrival time, µs
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

-- The numbers of a field "a b c", or nothing.
local function numbers(text)
  if not text then
    return nil
  end
  local a, b, c = string.match(text, '^(%d+) ?(%d*) ?(%d*)')
  return tonumber(a), tonumber(b), tonumber(c)
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
  local gates, name = state_of(ctx), lane.name
  if gates['p:' .. name] then
    return 0, 'paused'
  end
  local hold = numbers(gates['h:' .. name])
  if hold and hold > ctx.now then
    return 0, 'hold', hold
  end
  local open = gates['o:' .. name]
  if open and lane.circuit then
    local till = numbers(open)
    local probe = string.match(open, '^%d+ %d+ %d+ (.+)$')
    if till > ctx.now then
      return 0, 'circuit', till
    elseif ctx.handed_out and (ctx.handed_out[lane] or 0) > 0 then
      return 0, 'circuit'
    elseif probe and call('HEXISTS', ctx.keys.leases, probe) == 1 then
      return 0, 'circuit'
    end
    most = min(most, 1)
  end
  if lane.concurrency then
    local room = lane.concurrency - running_in(ctx, lane)
    if room <= 0 then
      return 0, 'concurrency'
    end
    most = min(most, room)
  end
  if lane.rate then
    local room, opens = lk.rate_room(ctx, lane.rate, numbers(gates['t:' .. name]) or 0, most)
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
    local arrival = lk.rate_spend(ctx, lane.rate, numbers(state_of(ctx)['t:' .. lane.name]) or 0, count)
    set(ctx, 't:' .. lane.name, lk.digits(arrival))
  end
  local open = lane.circuit and state_of(ctx)['o:' .. lane.name]
  if open and count > 0 then
    set(ctx, 'o:' .. lane.name, string.match(open, '^%d+ %d+ %d+') .. ' ' .. last_id)
  end
end

-- A dependency asked for patience for the whole lane. One that asks anew as soon as it is tried again has held the lane since it
-- asked first: short waits one after the other are one long hold, and no news each.
function lk.hold_lane(ctx, lane, delay)
  local till, since = numbers(state_of(ctx)['h:' .. lane.name])
  if not till or ctx.now - till > HOLD_GAP then
    till, since = 0, ctx.now
    lk.event(ctx, 'held', '', lane.name, 'Retry-After')
  end
  set(ctx, 'h:' .. lane.name, lk.digits(max(till, ctx.now + delay)) .. ' ' .. lk.digits(since))
end

-- Ends a hold by hand; whether there was one.
function lk.lift_hold(ctx, name)
  local till = numbers(state_of(ctx)['h:' .. name])
  unset(ctx, 'h:' .. name)
  return till ~= nil and till > ctx.now
end

-- An attempt of the lane succeeded: its dependency works.
function lk.circuit_success(ctx, lane)
  if lane and lane.circuit then
    if state_of(ctx)['o:' .. lane.name] then
      lk.event(ctx, 'circuit-closed', '', lane.name, '')
    end
    unset(ctx, 'f:' .. lane.name)
    unset(ctx, 'o:' .. lane.name)
  end
end

-- An attempt failed although the job may be right. Enough of these in a row, or a failed probe, open the circuit.
function lk.circuit_failure(ctx, lane, id)
  if not lane or not lane.circuit then
    return
  end
  local field, open = 'o:' .. lane.name, state_of(ctx)['o:' .. lane.name]
  if open then
    local _, openings, since = numbers(open)
    -- Jobs that were running when it opened say nothing new.
    if string.match(open, '^%d+ %d+ %d+ (.+)$') == id then
      local wait = min(lane.circuit.probe * 2 ^ openings, max(PROBE_MOST, lane.circuit.probe))
      set(ctx, field, fmt('%.0f %d %.0f', ctx.now + wait, openings + 1, since))
      lk.event(ctx, 'probe-failed', id, lane.name, '')
    end
    return
  end
  local failures = (tonumber(state_of(ctx)['f:' .. lane.name]) or 0) + 1
  set(ctx, 'f:' .. lane.name, tostring(failures))
  if failures >= lane.circuit.failures then
    set(ctx, field, fmt('%.0f 1 %.0f', ctx.now + lane.circuit.probe, ctx.now))
    lk.event(ctx, 'circuit-opened', id, lane.name, '')
  end
end

-- An attempt failed for good, which speaks of its job and not of the dependency, unless that is in doubt: what probes must succeed.
function lk.circuit_permanent(ctx, lane, id)
  if lane and lane.circuit and state_of(ctx)['o:' .. lane.name] then
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
    if room == 1 and lane.circuit and gates['o:' .. name] then
      -- Half open: the next job is a probe, and nothing follows before it has ended.
      room, gate, till = 0, 'circuit', nil
    end
    if room == 0 and gate ~= 'paused' then
      local _, since = numbers(gates['h:' .. name])
      if gate == 'circuit' then
        local _, _, opened = numbers(gates['o:' .. name])
        since = opened
      elseif gate ~= 'hold' then
        since = nil
      end
      out[#out + 1] = {name, gate, till or -1, since or -1, '', ''}
    end
  end
  return out
end

-- Forgets gates of lanes that are gone, but for pauses by hand: those stay until somebody resumes, also where a lane comes back.
function lk.forget_gates(ctx, lane_names)
  for field in pairs(state_of(ctx)) do
    local name = string.match(field, '^[^p]:(.+)$')
    if name and not lane_names[name] then
      unset(ctx, field)
    end
  end
end
