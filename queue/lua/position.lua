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
  local rec = lk.read_record(call('HGET', ctx.keys.jobs, id))
  local ty = rec and lk.type_of(ctx.policy, rec[TYPE])
  local score = ty and call('ZSCORE', ty.ready, id)
  if not score then
    return {}
  end
  local ahead, waiting = call('ZRANK', ty.ready, id), call('ZCARD', ty.ready)
  for _, other in ipairs(ty.lane and ty.lane.types or {}) do
    if other ~= ty then
      ahead = ahead + call('ZCOUNT', other.ready, '-inf', '(' .. score)
      -- Jobs of the same millisecond go by id, as in claims.
      for _, twin in ipairs(call('ZRANGEBYSCORE', other.ready, score, score, 'LIMIT', 0, 200)) do
        ahead = ahead + (twin < id and 1 or 0)
      end
      waiting = waiting + call('ZCARD', other.ready)
    end
  end
  return {ahead, waiting}
end

redis.register_function{function_name = 'lk_position', callback = position, flags = {'no-writes'}}
