-- lk_pass_on root lane...  ->  number of lanes for which a token was put back
--
-- For a worker that took a wake token and then had no slot for the job: where something still waits and no token is left,
-- another worker is woken.

local function pass_on(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  if #args > 64 then
    return lk.error('LKLIMIT', 'at most 64 lanes a call')
  end
  local passed = 0
  for _, name in ipairs(args) do
    local lane = ctx.policy.lane[name]
    if lane and not lk.queue_held(ctx) and lk.lane_waits(lane) and call('EXISTS', lane.wake) == 0 then
      call('RPUSH', lane.wake, '1')
      passed = passed + 1
    end
  end
  return passed
end

lk.register('lk_pass_on', pass_on, {'allow-oom'})
