-- lk_enqueue root (options payload)+  ->  one {id, outcome, state} per pair, in order: what they would be if each pair came in a call of its own.
--
-- outcome: queued, scheduled, duplicate (id and state are the owner's), replaced (the job of that id, which had not been
-- started, is this one now), or rejected:<reason> with a nil id and a sentence in place of the state. What goes at once may be
-- handed to a worker by this very call (see offer.lua). Not allowed at OOM: it is what fills Redis.

local function too_much(args)
  local count = #args
  if count == 0 or count % 2 == 1 then
    return lk.error('LKARGS', 'lk_enqueue takes pairs: options payload [options payload ...]')
  end
  if count > 2 * lk.MAX_PAIRS then
    return lk.error('LKLIMIT', fmt('at most %d jobs a call, this one has %d', lk.MAX_PAIRS, count / 2))
  end
  local bytes = 0
  for i = 2, count, 2 do
    bytes = bytes + #args[i]
  end
  if bytes > lk.MAX_BYTES then
    return lk.error('LKLIMIT', fmt('at most %d bytes of payload a call, this one has %d', lk.MAX_BYTES, bytes))
  end
end

-- Fails, while nothing is written, where jobs could not be put in line or on schedule.
local function require_lines(stage)
  for _, ty in ipairs(stage.touched) do
    local has = stage.types[ty].has
    if has.ready then
      call('ZCARD', ty.ready)
    end
    if has.scheduled then
      call('ZCARD', ty.scheduled)
    end
  end
end

local function enqueue(keys, args)
  local serves = lk.has_offers(keys[1])
  local ctx, failure = lk.open(keys, serves)
  failure = failure or too_much(args)
  if failure then
    return failure
  end
  lk.require_records(ctx)
  local replies, specs = {}, {}
  for i = 1, #args, 2 do
    local at = (i + 1) / 2
    local spec, reply = lk.read_pair(ctx, args[i], args[i + 1])
    if spec then
      spec.at = at
      specs[#specs + 1] = spec
    else
      replies[at] = reply
    end
  end
  local stage = lk.stage()
  lk.admit(ctx, stage, specs, replies, true)
  require_lines(stage)
  local told = {}
  if serves then
    -- Whoever may not do what that takes has enqueued all the same.
    pcall(lk.hand_over, ctx, stage, told)
  end
  lk.commit(ctx, stage)
  for _, message in ipairs(told) do
    call('PUBLISH', message[1], message[2])
  end
  if told[1] then
    lk.touch(ctx)
  end
  return replies
end

lk.register('lk_enqueue', enqueue)
