-- What the calls share that act on jobs by their ids: root [by why meant] id...  ->  {id, outcome, state} per id, of as many different
-- ids, from the first, as a call reads (lk.CLAIM_BYTES): the rest is for another call.

local function read_ids(args, from)
  local ids, seen = {}, {}
  for i = from, #args do
    if not seen[args[i]] then
      seen[args[i]] = true
      ids[#ids + 1] = args[i]
    end
  end
  if not ids[1] or #ids > lk.MAX_BATCH then
    return nil, lk.error('LKARGS', fmt('give 1 to %d ids', lk.MAX_BATCH))
  end
  return ids
end

-- Replies with what `act(ctx, stage, id, job)` (nil: none that can be read) answers for every id, once; then writes what they staged. The ids
-- begin at argument `from`; what stands before them is who asks, why, and what is meant.
function lk.by_id(keys, args, from, act)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  local ids, wrong = read_ids(args, from)
  for i = 1, from - 1 do
    if not lk.is_utf8(args[i] or '') then
      wrong = lk.error('LKARGS', 'who asks and why must be UTF-8')
    end
  end
  if wrong then
    return wrong
  end
  lk.require_leases(ctx)
  local records, pasts, read = lk.read_within(ctx, ids, lk.CLAIM_BYTES)
  local stage, replies, jobs, places = lk.stage(), {}, {}, {}
  for i = 1, read do
    jobs[i] = lk.read_job(records[i], pasts[i])
    places[#places + 1] = jobs[i] and lk.type_of(ctx.policy, jobs[i][TYPE])
  end
  lk.require_places(ctx, places)
  for i = 1, read do
    replies[i] = act(ctx, stage, ids[i], jobs[i])
  end
  lk.commit(ctx, stage)
  return replies
end
