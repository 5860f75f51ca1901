-- lk_group root id  ->  {group, running, limit or -1, held until or -1, rate opens at or -1, jobs of the group that go first}, or
--   an empty list
--
-- What holds a ready job of a type with a concurrency key: the bounds of its group (see groups.lua). Jobs from before their type
-- had a key have none. A limit that is not reached is answered all the same; what holds nothing back is -1.

local function group(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  local id = args[1] or ''
  local name = call('HGET', ctx.keys.group_of, id)
  local job = name and name ~= '' and lk.read_job(call('HGET', ctx.keys.jobs, id), call('HGET', ctx.keys.pasts, id))
  local ty = job and lk.type_of(ctx.policy, job[TYPE])
  local line = ty and ty.groups and ty.lane and ty.groups.line_of .. name
  local score = line and call('ZSCORE', line, id)
  if not score then
    return {}
  end
  local held = lk.hold_end(ctx, call('HGET', ty.groups.holds, name)) or -1
  local rate, opens = lk.group_rate(ty, name), nil
  if rate then
    opens = select(2, lk.rate_room(ctx, rate, tonumber(call('HGET', ty.groups.arrivals, name)) or 0, 1))
  end
  return {
    name, tonumber(call('HGET', ty.groups.running, name)) or 0, ty.groups.limit or -1, held, opens or -1,
    lk.ahead_in(line, ty.lane.step, tonumber(score), id),
  }
end

lk.register('lk_group', group, {'no-writes'})
