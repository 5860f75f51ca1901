-- lk_get root with_payload(0|1) id...  ->  {now, one entry per id}; an entry is false or what lk.view gives. There are as many
-- entries as a call reads (lk.CLAIM_BYTES), of the first ids: the rest is for another call.

-- {id, state, lane or '', payload bytes, record without or with payload, past or '', lease or '', its expiry or -1, fingerprint of
-- a dead or discarded one or '', progress or '', when the checkpoint was left or -1, its size}, and the job's type
function lk.view(ctx, id, raw, past, with_payload, told, left)
  local job, payload = lk.read_job(raw, past)
  if not job then
    return false
  end
  local ty = lk.type_of(ctx.policy, job[TYPE])
  local lease_raw = job[STATE] == LIVE and call('HGET', ctx.keys.leases, id)
  local lease = lk.read_lease(lease_raw)
  local expiry = lease and call('ZSCORE', ctx.keys.running, id)
  local state = lease_raw and 'running' or (job[STATE] ~= LIVE and STATE_NAMES[job[STATE]])
    or (lk.waits_for_time(ctx, id, job) and 'scheduled' or 'ready')
  return {
    id, state, ty.lane and ty.lane.name or '', #raw - payload + 1, with_payload and raw or sub(raw, 1, payload - 1), past or '',
    lease and lease_raw or '', expiry and tonumber(expiry) or -1,
    (job[STATE] == DEAD or job[STATE] == DISCARDED) and lk.fingerprint_of(ctx, id, job) or '', lk.view_notes(told, left),
  }, job[TYPE]
end

-- Views of many ids, from the first as many as a call reads, the types of their jobs, and how many bytes were read; a missing or
-- damaged record gives false.
function lk.views(ctx, ids, with_payload)
  local out, types = {}, {}
  if not ids[1] then
    return out, types, 0
  end
  local records, pasts, read, bytes = lk.read_within(ctx, ids, lk.CLAIM_BYTES)
  local notes = lk.read_notes(ctx, ids) or NONE
  for i = 1, read do
    out[i], types[i] = lk.view(ctx, ids[i], records[i], pasts[i], with_payload, notes[2 * i - 1], notes[2 * i])
  end
  return out, types, bytes
end

local function get(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  if #args < 2 or #args > lk.MAX_BATCH + 1 then
    return lk.error('LKARGS', fmt('lk_get takes a flag and 1 to %d ids', lk.MAX_BATCH))
  end
  return {ctx.now, (lk.views(ctx, {unpack_list(args, 2)}, args[1] == '1'))}
end

lk.register('lk_get', get, {'no-writes'})
