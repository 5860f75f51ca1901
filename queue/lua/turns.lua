-- Turns of concurrency keys: which groups go next, and with which jobs (see groups.lua).

-- No turn comes near this, which the clock reaches in the year 2112, µs: one beyond it was written by hand.
local MOST_TURN = 2 ^ 52

-- The number of a turn behind all that stand, the same for all of a call. It is the time, µs, as long as that rises; where the clock
-- went back, whoever is served would otherwise have the first turn again and again, and the others none before the clock caught up.
function lk.turn_after_all(ctx, ty)
  ctx.turn_of = ctx.turn_of or {}
  if not ctx.turn_of[ty] then
    local last = tonumber(call('ZRANGE', ty.groups.turns, -1, -1, 'WITHSCORES')[2]) or 0
    ctx.turn_of[ty] = max(ctx.us, last < MOST_TURN and last + 1 or 0)
  end
  return ctx.turn_of[ty]
end

-- Without the jobs that another group has now: damage put them into two lines, of which the other is right.
local function own_only(ctx, ty, list)
  local ids, kept = {}, {}
  for i = 1, #list, 2 do
    ids[#ids + 1] = list[i]
  end
  local groups = ids[1] and call('HMGET', ctx.keys.group_of, unpack_list(ids)) or NONE
  for i, id in ipairs(ids) do
    local line = ctx.peeked[ty][id]
    if groups[i] and groups[i] ~= line.group then
      call('ZREM', line.key, id)
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
        lines[#lines + 1] = {group = group, room = room, key = lk.line_of_group(ty, group)}
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

-- Reads up to `quota` jobs of each line, and one more, which tells whether any stay in it; returns whether some line may have
-- more that it has room for.
local function read_heads(ty, lines, quota, uniform)
  local cut = false
  for _, line in ipairs(lines) do
    line.most, line.at = min(quota, line.room), 0
    local read, heads = pcall(lk.aged_head, ty.lane, line.key, line.most + 1, uniform)
    line.heads, line.failed = read and heads or {}, not read and heads or nil
    cut = cut or (line.room > quota and #line.heads > 2 * quota)
  end
  return cut
end

-- Deals out at most `most` jobs, one of each line in turn: {id, score, ...}; notes in `peeked` which has each.
local function deal(lines, most, peeked)
  local list, progress, taken = {}, true, {}
  while progress and #list < 2 * most do
    progress = false
    for _, line in ipairs(lines) do
      local id = line.at < line.most and line.heads[2 * line.at + 1]
      if id and taken[id] then
        -- Damage put it into two lines.
        call('ZREM', line.key, id)
        line.at, progress = line.at + 1, true
      elseif id and #list < 2 * most then
        taken[id] = true
        list[#list + 1], list[#list + 2] = id, line.heads[2 * line.at + 2]
        peeked[id] = line
        line.at = line.at + 1
        progress = true
      end
    end
  end
  return list
end

-- Reads as much of each line as makes up `most` jobs where all have as much: long lines are many, and reading them costs more than
-- all else. Returns the lines and whether some may have more.
local function read_lines(ctx, ty, most, uniform)
  for _ = 1, 4 do
    local lines, empty = groups_that_go(ctx, ty, most), false
    local cut = read_heads(ty, lines, floor((most - 1) / max(1, #lines)) + 1, uniform)
    for _, line in ipairs(lines) do
      if line.failed then
        -- Something else overwrote it: the others go on.
        lk.set_aside(ctx, ty, line.group, line.failed)
        empty = true
      elseif not line.heads[1] then
        -- Damage: it has a turn and no line.
        lk.place_group(ctx, ty, line.group)
        empty = true
      end
    end
    if not empty then
      return lines, cut
    end
  end
  return {}, false
end

-- The next jobs of a grouped type, at most `most`, in turns: {id, score, ...} as a line's head; and what was looked at for them
-- (see rank.lua).
function lk.peek_groups(ctx, ty, most)
  lk.require_groups(ctx, ty)
  lk.try(ctx, lk.regroup, ty)
  lk.let_groups_in(ctx, ty, 64)
  local uniform, peeked = lk.is_uniform(ty.ready), {}
  local lines, cut = read_lines(ctx, ty, most, uniform)
  ctx.peeked = ctx.peeked or {}
  ctx.peeked[ty] = peeked
  local list = deal(lines, most, peeked)
  if cut and #list < 2 * most then
    read_heads(ty, lines, most, uniform)
    list = deal(lines, most, peeked)
  end
  return own_only(ctx, ty, list), {lines = lines, uniform = uniform}
end

-- Jobs left their groups' lines: but for the `bad` they were handed out and count as running, and their groups go to the
-- end of the round.
function lk.groups_served(ctx, ty, ids, bad)
  local members, served, last, lines, order = {}, {}, {}, {}, {}
  for i, id in ipairs(ids) do
    local line = ctx.peeked[ty][id]
    if not members[line] then
      members[line], served[line] = {}, 0
      lines[#lines + 1], order[#order + 1] = line, line.group
    end
    local own = members[line]
    own[#own + 1] = id
    served[line] = served[line] + (bad[id] and 0 or 1)
    last[line] = i
  end
  local turns, running, stands, counts = {}, lk.running_of_groups(ty, order), {}, {}
  for i, line in ipairs(lines) do
    local group, own = line.group, members[line]
    call('ZREM', line.key, unpack_list(own))
    running[i] = (tonumber(running[i]) or 0) + served[line]
    lk.push2(counts, group, running[i])
    local rate = lk.group_rate(ty, group)
    if rate then
      local arrival = tonumber(call('HGET', ty.groups.arrivals, group)) or 0
      call('HSET', ty.groups.arrivals, group, lk.digits(lk.rate_spend(ctx, rate, arrival, served[line])))
    end
    -- By its last job of the call: a key that got fewer than others is the first next time.
    turns[i] = lk.digits(lk.turn_after_all(ctx, ty) + last[line])
    stands[i] = #line.heads > 2 * #own
  end
  lk.write('HSET', ty.groups.running, counts)
  lk.place_groups(ctx, ty, order, turns, running, stands)
end
