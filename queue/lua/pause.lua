-- lk_pause root by why lane...  ->  {lane ('' the queue), changed (0|1)} per lane; none named: the whole queue
-- lk_resume root by lane...     ->  the same
--
-- A paused queue or lane accepts jobs and starts none; what runs goes on. Beside the policy's own `paused`, which only the
-- policy lifts.

local function read_lanes(ctx, args, from)
  local lanes = {unpack_list(args, from)}
  if #lanes > 64 then
    return nil, lk.error('LKLIMIT', 'at most 64 lanes a call')
  end
  for _, name in ipairs(lanes) do
    if not ctx.policy.lane[name] then
      return nil, lk.error('LKARGS', 'the queue has no lane ' .. lk.clip(lk.clean(name), 100))
    end
  end
  return lanes[1] and lanes or {''}
end

local function field_of(name)
  return name == '' and 'p' or 'p:' .. name
end

local function pause(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  if #args < 2 or not lk.is_utf8(args[1]) or not lk.is_utf8(args[2]) then
    return lk.error('LKARGS', 'lk_pause takes who asks, why, and lanes, all UTF-8')
  end
  local lanes, wrong = read_lanes(ctx, args, 3)
  if wrong then
    return wrong
  end
  local replies = {}
  for i, name in ipairs(lanes) do
    local value = pack({ctx.now, lk.clip(args[1], 128), lk.clip(args[2], 1024)})
    replies[i] = {name, call('HSETNX', ctx.keys.gates, field_of(name), value)}
  end
  call('PUBLISH', ctx.keys.wake, 'gates')
  return replies
end

local function resume(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  if #args < 1 or not lk.is_utf8(args[1]) then
    return lk.error('LKARGS', 'lk_resume takes who asks, and lanes, all UTF-8')
  end
  local lanes, wrong = read_lanes(ctx, args, 2)
  if wrong then
    return wrong
  end
  local replies = {}
  for i, name in ipairs(lanes) do
    replies[i] = {name, call('HDEL', ctx.keys.gates, field_of(name))}
  end
  ctx.gates = nil
  lk.wake_lanes(ctx.keys, ctx.policy, lk.queue_held(ctx))
  call('PUBLISH', ctx.keys.wake, 'gates')
  return replies
end

redis.register_function{function_name = 'lk_pause', callback = pause, flags = {'allow-oom'}}
redis.register_function{function_name = 'lk_resume', callback = resume, flags = {'allow-oom'}}
