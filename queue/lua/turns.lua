-- Turns of concurrency keys: which groups go next, and with which jobs (see groups.lua).

-- Without the jobs that another group has now: damage put them into two lines, of which the other is right.
local function own_only(ctx, ty, list)
  local ids, kept = {}, {}
  for i = 1, #list, 2 do
    ids[#ids + 1] = list[i]
  end
  local groups = ids[1] and call('HMGET', ctx.keys.group_of, unpack_list(ids)) or NONE
  for i, id in ipairs(ids) do
    if groups[i] and groups[i] ~= ctx.peeked[id] then
      call('ZREM', lk.line_of_group(ty, ctx.peeked[id]), id)
      lk.place_group(ctx, ty, ctx.peeked[id])
    else
      lk.push2(kept, id, list[2 * i])
    end
  end
  return kept
end

-- The groups whose turn it is and that may go, at most `most`: {group, room} each.
local function groups_that_go(ctx, ty, most)
  local lines
  for _ = 1, 4 do
    local blocked = 0
    lines = {}
    local groups = call('ZRANGE', ty.groups.turns, 0, most - 1)
    local running = ty.groups.limit and lk.running_of_groups(ty, groups) or NONE
    for i, group in ipairs(groups) do
      local room = lk.group_room(ctx, ty, group, most, running[i])
      if room > 0 then
        lines[#lines + 1] = {group = group, room = room}
      else
        -- Its bounds were tightened since it got its turn: it makes way for those behind.
        lk.place_group(ctx, ty, group)
        blocked = blocked + 1
      end
    end
    if blocked == 0 or #lines >= most then
      break
    end
  end
  return lines
end

-- Reads up to `quota` jobs of each line; returns whether some line may have more that it has room for.
local function read_heads(ty, lines, quota)
  local cut = false
  for _, line in ipairs(lines) do
    line.heads, line.at = lk.aged_head(ty.lane, lk.line_of_group(ty, line.group), min(quota, line.room)), 0
    cut = cut or (line.room > quota and #line.heads >= 2 * quota)
  end
  return cut
end

-- Deals out at most `most` jobs, one of each line in turn: {id, score, ...}.
local function deal(ctx, ty, lines, most)
  local list, progress, taken = {}, true, {}
  ctx.peeked = ctx.peeked or {}
  while progress and #list < 2 * most do
    progress = false
    for _, line in ipairs(lines) do
      local id = line.heads[2 * line.at + 1]
      if id and taken[id] then
        -- Damage put it into two lines.
        call('ZREM', lk.line_of_group(ty, line.group), id)
        line.at, progress = line.at + 1, true
      elseif id and #list < 2 * most then
        taken[id] = true
        list[#list + 1], list[#list + 2] = id, line.heads[2 * line.at + 2]
        ctx.peeked[id] = line.group
        line.at = line.at + 1
        progress = true
      end
    end
  end
  return list
end

-- The next jobs of a grouped type, at most `most`, in turns: {id, score, ...} as a line's head.
function lk.peek_groups(ctx, ty, most)
  lk.regroup(ctx, ty)
  lk.let_groups_in(ctx, ty, 64)
  local lines = groups_that_go(ctx, ty, most)
  -- As much of each as makes up the whole where all have as much: long lines are many, and reading them costs more than all else.
  local cut = read_heads(ty, lines, floor((most - 1) / max(1, #lines)) + 1)
  local list = deal(ctx, ty, lines, most)
  if cut and #list < 2 * most then
    read_heads(ty, lines, most)
    list = deal(ctx, ty, lines, most)
  end
  return own_only(ctx, ty, list)
end

-- Jobs left their groups' lines: but for the `bad` they were handed out and count as running, and their groups go to the
-- end of the round.
function lk.groups_served(ctx, ty, ids, bad)
  local members, served, last, order, turns, running = {}, {}, {}, {}, {}, {}
  for i, id in ipairs(ids) do
    local group = ctx.peeked and ctx.peeked[id] or ''
    if not members[group] then
      members[group], served[group] = {}, 0
      order[#order + 1] = group
    end
    local own = members[group]
    own[#own + 1] = id
    served[group] = served[group] + (bad[id] and 0 or 1)
    last[group] = i
  end
  for i, before in ipairs(lk.running_of_groups(ty, order)) do
    local group = order[i]
    call('ZREM', lk.line_of_group(ty, group), unpack_list(members[group]))
    lk.push2(running, group, (tonumber(before) or 0) + served[group])
    local rate = lk.group_rate(ty, group)
    if rate then
      local arrival = tonumber(call('HGET', ty.groups.arrivals, group)) or 0
      call('HSET', ty.groups.arrivals, group, lk.digits(lk.rate_spend(ctx, rate, arrival, served[group])))
    end
    -- By its last job of the call: a key that got fewer than others is the first next time.
    turns[i] = lk.digits(ctx.us + last[group])
  end
  lk.write('HSET', ty.groups.running, running)
  lk.place_groups(ctx, ty, order, turns)
end
