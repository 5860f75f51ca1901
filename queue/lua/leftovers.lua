-- What is left of jobs whose records are gone, deleted by hand: entries among the dead letters and of jobs that are done or wait for
-- their time, cards, pasts. Nothing else looks at those, or not soon, and as long as they stand the sums of repair.lua count them for
-- jobs, of which as many may be lost unseen.

-- Entries that a sweep looks at in each index of letters; so many where the sums say that something stands for no job. Fields of a
-- hash that it picks at random.
local WALK, SEARCH, PICK = 20, 500, 8

-- Those that have no record.
local function without_record(ctx, ids)
  local gone = {}
  for _, id in ipairs(ids) do
    if call('HEXISTS', ctx.keys.jobs, id) == 0 then
      gone[#gone + 1] = id
    end
  end
  return gone
end

local function forget(ctx, ids)
  if ids[1] then
    lk.forget_letters(ctx, ids)
    lk.forget_jobs(ctx, ids)
    lk.damaged(ctx, #ids)
  end
end

-- The next part of an index; which one that is, is kept in the queue's meta. Whether it was the last.
local function walk(ctx, key, cursor, count)
  local from = lk.whole(call('HGET', ctx.keys.meta, cursor)) or 0
  local ids = call('ZRANGE', key, from, from + count - 1)
  local gone = without_record(ctx, ids)
  forget(ctx, gone)
  lk.write('ZREM', key, gone)
  if #ids == count then
    call('HSET', ctx.keys.meta, cursor, lk.digits(from + count - #gone))
  else
    call('HDEL', ctx.keys.meta, cursor)
  end
  return #ids < count
end

-- The same of the indexes of one type after the other, of jobs that are done and of those that wait for their time: nobody comes upon
-- those before that time, or the retention's, has come.
local function walk_types(ctx)
  local at, indexes = lk.whole(call('HGET', ctx.keys.meta, 'wt')) or 0, {}
  for _, name in ipairs(call('SMEMBERS', ctx.keys.types)) do
    local ty = lk.type_of(ctx.policy, name)
    lk.push2(indexes, ty.finished, ty.scheduled)
  end
  local key = indexes[at % max(1, #indexes) + 1]
  if key and walk(ctx, key, 'wi', SEARCH) then
    call('HSET', ctx.keys.meta, 'wt', lk.digits(at % #indexes + 1))
  end
end

-- Of jobs that run nothing is forgotten: their leases end first.
local function pick(ctx, key)
  local gone = {}
  for _, id in ipairs(without_record(ctx, call('HRANDFIELD', key, PICK))) do
    if call('HEXISTS', ctx.keys.leases, id) == 0 then
      gone[#gone + 1] = id
    end
  end
  forget(ctx, gone)
end

-- Forgets some of that. `surplus`: more stands in indexes than there are jobs.
function lk.forget_leftovers(ctx, surplus)
  local count = surplus and SEARCH or WALK
  lk.try(ctx, walk, ctx.keys.dead, 'wd', count)
  lk.try(ctx, walk, ctx.keys.discarded, 'wx', count)
  lk.try(ctx, pick, ctx.keys.pasts)
  lk.try(ctx, pick, ctx.keys.cards)
  if surplus then
    lk.try(ctx, walk_types)
  end
end
