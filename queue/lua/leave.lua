-- lk_leave root identity  ->  1 when the worker was known, else 0
--
-- A worker says goodbye: its heartbeat and its offer are forgotten. Leases it still has run on until they expire.

local function leave(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  local who, _, wrong = lk.read_worker_call(args[1], nil, 0)
  if wrong then
    return wrong
  end
  lk.forget_offer(ctx.keys.root, who[1])
  return call('HDEL', ctx.keys.workers, who[1])
end

lk.register('lk_leave', leave, {'allow-oom'})
