-- Jobs that were scheduled and fall due.

-- When the next scheduled job falls due, ms; nil when none is scheduled.
function lk.next_scheduled(ctx)
  return tonumber(call('ZRANGE', ctx.keys.next, 0, 0, 'WITHSCORES')[2])
end

-- Moves due jobs of a type into its line, at most `room`; returns how many moved and whether more are due.
local function promote_type(ctx, ty, room)
  local found = call('ZRANGEBYSCORE', ty.scheduled, '-inf', ctx.now * 10 + 9, 'WITHSCORES', 'LIMIT', 0, room)
  local count = #found / 2
  if count > 0 then
    local ready = {}
    for i = 1, #found, 2 do
      -- Something else may have written any number there.
      local score = max(0, floor(tonumber(found[i + 1])))
      local priority = score % 10
      lk.push2(ready, priority * lk.PRIORITY_STEP + (score - priority) / 10, found[i])
    end
    -- In line before they leave the schedule: where the line is damaged they stay.
    call('ZADD', ty.ready, unpack_list(ready))
    call('ZREMRANGEBYRANK', ty.scheduled, 0, count - 1)
    if ty.groups then
      lk.line_up(ctx, ty, ready)
    end
    lk.announce(ctx, ty, count)
  end
  lk.refresh_next(ctx, ty)
  return count, count == room
end

-- Types that one call looks at.
local MOST_TYPES = 64

-- Moves due jobs of the types into their lines, at most `share` of each and `most` in all; returns how many moved, and which types
-- have more.
local function promote_types(ctx, names, share, most)
  local moved, rest = 0, {}
  for _, name in ipairs(names) do
    local ok, count, more = lk.try(ctx, promote_type, lk.type_of(ctx.policy, name), min(share, most - moved))
    if ok then
      moved = moved + count
      rest[#rest + 1] = more and name or nil
    else
      -- Else every claim would come back to it at once; a sweep finds it again once it is whole.
      call('ZREM', ctx.keys.next, name)
    end
  end
  return moved, rest
end

-- Moves jobs that became due into their lines, at most `most`; returns how many moved and whether more are due. Every type gets its
-- share first: of a herd that falls due at once no other type waits for the end, which may be a critical one.
function lk.promote(ctx, most)
  local names = call('ZRANGEBYSCORE', ctx.keys.next, '-inf', ctx.now, 'LIMIT', 0, MOST_TYPES)
  local moved, rest = promote_types(ctx, names, max(1, floor(most / max(1, #names))), most)
  if rest[1] and moved < most then
    local others
    others, rest = promote_types(ctx, rest, most, most - moved)
    moved = moved + others
  end
  return moved, rest[1] ~= nil or #names == MOST_TYPES
end

-- Puts the type's next due time right, after jobs left its schedule.
function lk.refresh_next(ctx, ty)
  local head = call('ZRANGE', ty.scheduled, 0, 0, 'WITHSCORES')
  if head[1] then
    call('ZADD', ctx.keys.next, floor(tonumber(head[2]) / 10), ty.name)
  else
    call('ZREM', ctx.keys.next, ty.name)
  end
end
