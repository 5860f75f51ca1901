-- lk_extend root identity info held [notes]  ->  {now, policy version, {lost ids}, {ids whose cancellation was asked for} [, epoch, handed]}
--
-- A worker's heartbeat: shows it alive (`info`, opaque msgpack for lk_stats) and extends its leases by the policy's
-- lease. held: msgpack list of {id, token}. notes: msgpack list of {place in held from 1, note} (see notes.lua), at most 2 MiB of them: they
-- count only where the lease does. The last two where the worker offered room: how much was handed to it, see offer.lua. An expired lease that was not swept is extended like any other.

-- Stages what the notes say of jobs whose leases are the caller's. A lease is marked with the first note of its job.
local function take_notes(ctx, stage, notes, held, leases)
  for _, item in ipairs(notes) do
    local at = type(item) == 'table' and item[1]
    local lease = leases[at]
    if lease and lk.stage_note(ctx, stage, held[at][1], item[2]) and not lease.noted then
      lk.push2(stage.lease_set, held[at][1], lk.lease_with(lease, {[L_MARKS] = lease.keyed and 3 or 2}))
    end
  end
end

local function read_notes(blob)
  if blob == nil or blob == '' then
    return NONE
  end
  if #blob > 2 * lk.MAX_BYTES then
    return nil, lk.error('LKLIMIT', fmt('at most %d bytes of notes a call, this one has %d', 2 * lk.MAX_BYTES, #blob))
  end
  local notes = lk.decode(blob)
  return notes, not notes and lk.error('LKARGS', 'the notes must be msgpack') or nil
end

local function extend(keys, args)
  local ctx, failure = lk.open(keys, true)
  if failure then
    return failure
  end
  local who, held, wrong = lk.read_worker_call(args[1], args[3], lk.MAX_HELD)
  local notes, unclear = read_notes(args[4])
  if wrong or unclear then
    return wrong or unclear
  end
  lk.require_leases(ctx)
  local known = lk.read_heartbeat(call('HGET', ctx.keys.workers, who[1]))
  local lost, cancelled, renewed, ids, own = {}, {}, {}, {}, {}
  for i, item in ipairs(held) do
    ids[i] = type(item) == 'table' and tostring(item[1]) or ''
  end
  if ids[1] then
    local leases = call('HMGET', ctx.keys.leases, unpack_list(ids))
    local expiry = lk.digits(ctx.now + ctx.lease)
    for i, id in ipairs(ids) do
      local lease = lk.read_lease(leases[i])
      if lease and lk.holds(lease, held[i][2], who) then
        lk.push2(renewed, expiry, id)
        own[i] = lease
        if lease.cancelled_by then
          cancelled[#cancelled + 1] = id
        end
      else
        lost[#lost + 1] = id
      end
    end
  end
  if renewed[1] then
    call('ZADD', ctx.keys.running, unpack_list(renewed))
  end
  local stage = lk.stage()
  take_notes(ctx, stage, notes, held, own)
  lk.commit_jobs(ctx, stage)
  if args[2] and args[2] ~= '' then
    local started = known and known[2] or ctx.now
    call('HSET', ctx.keys.workers, who[1], pack({ctx.now, started}) .. sub(args[2], 1, 16384))
  end
  lk.touch(ctx)
  return {ctx.now, ctx.policy.version, lost, cancelled, lk.handed_to(ctx, who[1])}
end

-- A stored heartbeat: {seen, started} and the worker's info; nil when the bytes are none.
function lk.read_heartbeat(raw)
  local ok, at, times = pcall(unpack_one, raw)
  if not ok or at == -1 or type(times) ~= 'table' or type(times[1]) ~= 'number' or type(times[2]) ~= 'number' then
    return nil
  end
  return times, sub(raw, at + 1)
end

lk.register('lk_extend', extend, {'allow-oom'})
