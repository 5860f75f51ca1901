-- lk_get root with_payload(0|1) id...  ->  {now, one entry per id}; an entry is false or what lk.view gives.

-- {id, state, lane or '', payload bytes, record without or with payload, lease or '', its expiry or -1}
function lk.view(ctx, id, raw, with_payload)
  local rec, payload = lk.read_record(raw)
  if not rec then
    return false
  end
  local ty = lk.type_of(ctx.policy, rec[TYPE])
  local lease = rec[STATE] == LIVE and call('HGET', ctx.keys.leases, id)
  local expiry = lease and call('ZSCORE', ctx.keys.running, id)
  local state = lease and 'running' or (rec[STATE] ~= LIVE and STATE_NAMES[rec[STATE]])
    or (lk.due_of(rec) > ctx.now and 'scheduled' or 'ready')
  return {
    id, state, ty.lane and ty.lane.name or '', #payload, with_payload and raw or sub(raw, 1, #raw - #payload),
    lk.read_lease(lease) and lease or '', expiry and tonumber(expiry) or -1,
  }
end

-- Views of many ids; a missing or damaged record gives false.
function lk.views(ctx, ids, with_payload)
  local out = {}
  if ids[1] then
    local records = call('HMGET', ctx.keys.jobs, unpack_list(ids))
    for i, id in ipairs(ids) do
      out[i] = lk.view(ctx, id, records[i], with_payload)
    end
  end
  return out
end

local function get(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  if #args < 2 or #args > lk.MAX_BATCH + 1 then
    return lk.error('LKARGS', fmt('lk_get takes a flag and 1 to %d ids', lk.MAX_BATCH))
  end
  return {ctx.now, lk.views(ctx, {unpack_list(args, 2)}, args[1] == '1')}
end

redis.register_function{function_name = 'lk_get', callback = get, flags = {'no-writes'}}
