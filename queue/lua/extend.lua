-- lk_extend root identity info held  ->  {now, policy version, {lost ids}, {ids whose cancellation was asked for}}
--
-- A worker's heartbeat: shows it alive (`info`, opaque msgpack for lk_stats) and extends its leases by the policy's
-- lease. held: msgpack list of {id, token}. An expired lease that was not swept is extended like any other.

local function extend(keys, args)
  local ctx, failure = lk.open(keys, true)
  if failure then
    return failure
  end
  local who, held, wrong = lk.read_worker_call(args[1], args[3], lk.MAX_HELD)
  if wrong then
    return wrong
  end
  local lost, cancelled, renewed, ids = {}, {}, {}, {}
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
        if lease[L_CANCEL] == 1 then
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
  if args[2] and args[2] ~= '' then
    local known = lk.read_heartbeat(call('HGET', ctx.keys.workers, who[1]))
    local started = known and known[2] or ctx.now
    call('HSET', ctx.keys.workers, who[1], pack({ctx.now, started}) .. sub(args[2], 1, 16384))
  end
  lk.touch(ctx)
  return {ctx.now, ctx.policy.version, lost, cancelled}
end

-- A stored heartbeat: {seen, started} and the worker's info; nil when the bytes are none.
function lk.read_heartbeat(raw)
  if not raw then
    return nil
  end
  local ok, at, times = pcall(unpack_one, raw)
  if not ok or at == -1 or type(times) ~= 'table' or type(times[1]) ~= 'number' or type(times[2]) ~= 'number' then
    return nil
  end
  return times, sub(raw, at + 1)
end

redis.register_function{function_name = 'lk_extend', callback = extend, flags = {'allow-oom'}}
