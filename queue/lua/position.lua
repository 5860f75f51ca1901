-- lk_position root id  ->  {jobs of its lane that go first, jobs of its lane that wait}, or an empty list
--
-- Where a ready job stands in its lane, over all of the lane's types. Scheduled jobs that are due but not promoted are
-- left out: the next claim puts them in line.

local function position(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  local id = args[1] or ''
  local job = lk.read_job(call('HGET', ctx.keys.jobs, id), call('HGET', ctx.keys.pasts, id))
  local ty = job and lk.type_of(ctx.policy, job[TYPE])
  local score = ty and call('ZSCORE', ty.ready, id)
  if not score then
    return {}
  end
  if not ty.lane then
    return {call('ZRANK', ty.ready, id), call('ZCARD', ty.ready)}
  end
  local waiting = 0
  for _, other in ipairs(ty.lane.types) do
    waiting = waiting + call('ZCARD', other.ready)
  end
  return {lk.ahead_of(ty.lane, tonumber(score), id), waiting}
end

lk.register('lk_position', position, {'no-writes'})
