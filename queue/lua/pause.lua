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

-- Does `change(ctx, field)` to the pause of every lane named behind the first `texts` arguments, which must be UTF-8;
-- `event`: what that is.
local function toggle(keys, args, texts, event, change)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  if #args < texts or not lk.is_utf8(concat(args, ' ', 1, texts)) then
    return lk.error('LKARGS', 'lk_pause takes who asks, why, and lanes; lk_resume who asks, and lanes; all UTF-8')
  end
  local lanes, wrong = read_lanes(ctx, args, texts + 1)
  if wrong then
    return wrong
  end
  local replies = {}
  for i, name in ipairs(lanes) do
    replies[i] = {name, change(ctx, name == '' and 'p' or 'p:' .. name)}
    if replies[i][2] == 1 then
      lk.event(ctx, event, '', name, lk.clip(concat(args, ': ', 1, texts), 1024))
    end
  end
  if event == 'resumed' then
    lk.wake_lanes(ctx)
  end
  call('PUBLISH', ctx.keys.wake, 'gates')
  return replies
end

local function pause(keys, args)
  return toggle(keys, args, 2, 'paused', function(ctx, field)
    return call('HSETNX', ctx.keys.gates, field, pack({ctx.now, lk.clip(args[1], 128), lk.clip(args[2], 1024)}))
  end)
end

local function resume(keys, args)
  return toggle(keys, args, 1, 'resumed', function(ctx, field)
    local lane = string.match(field, '^p:(.*)$')
    local lifted = lane and lk.lift_hold(ctx, lane) and 1 or 0
    return max(lifted, call('HDEL', ctx.keys.gates, field))
  end)
end

lk.register('lk_pause', pause, {'allow-oom'})
lk.register('lk_resume', resume, {'allow-oom'})
