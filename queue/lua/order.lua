-- Who goes next: within a lane, and between lanes.
--
-- Within a lane, over all of its types, the job with the least due time + priority * step goes first, where a step is what
-- one level of priority is worth in waiting (lane.step): a job of low priority ages and is overtaken only for so long.
-- Jobs of the same moment go by id. A type whose concurrency keys take turns goes by the first of its jobs, whichever of them has
-- the turn (rank.lua). Between lanes, the order is the one the caller lists, or by deadline: the lane
-- whose next job has the least time left of what the lane promises, critical lanes before all others.

-- The priority in a score; whatever else something wrote there, it is one that there is.
local function priority_of(score)
  return max(0, min(floor(score / lk.PRIORITY_STEP), 9))
end

-- Priority and due time in a score.
local function split(score)
  local priority = priority_of(score)
  return priority, score - priority * lk.PRIORITY_STEP
end
lk.split_score = split

-- A line as {ids, scores}, split where the priority changes; a line of one priority is one segment, and `uniform` says that
-- it is one. Reads at most `room` of each.
local function segments(key, room, uniform)
  local head = call('ZRANGE', key, 0, room - 1, 'WITHSCORES')
  local count = #head
  if count == 0 then
    return {}
  elseif uniform then
    return {head}
  end
  -- A line that is shorter than there is room for has been read whole.
  local last = count < 2 * room and head[count] or call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  local low, high = priority_of(head[2]), priority_of(last)
  if low == high then
    return {head}
  end
  local found = {}
  for priority = low, high do
    local from = priority == low and '-inf' or lk.digits(priority * lk.PRIORITY_STEP)
    local to = priority == high and '+inf' or '(' .. lk.digits((priority + 1) * lk.PRIORITY_STEP)
    local part = call('ZRANGEBYSCORE', key, from, to, 'WITHSCORES', 'LIMIT', 0, room)
    found[#found + 1] = part[1] and part or nil
  end
  return found
end

-- By what a job goes, from its score.
local function aged(score, step)
  local priority, due = split(score)
  return due + priority * step
end
lk.aged = aged

-- Merges lines: of each part the `list` is what goes, and `by` is by what, {id, score, ...} both.
local function merge(lane, parts, most, limits)
  local ids, types, scores, taken = {}, {}, {}, {}
  while #ids < most do
    local best
    for _, part in ipairs(parts) do
      if part.at and (not best or part.age < best.age
        or (part.age == best.age and lk.before(part.by[part.at], best.by[best.at]))) then
        best = part
      end
    end
    if not best then
      break
    end
    local ty, n = best.ty, #ids + 1
    taken[ty] = (taken[ty] or 0) + 1
    local limit = limits[ty.name]
    -- Several segments of one type were read, each up to its limit.
    if type(limit) == 'number' and taken[ty] > limit then
      best.at = nil
    else
      ids[n], types[n], scores[n] = best.list[best.at], ty, tonumber(best.by[best.at + 1])
      best.at = best.at + 2
    end
    if best.at and best.list[best.at] then
      best.age = aged(tonumber(best.by[best.at + 1]), lane.step)
    else
      best.at = nil
    end
  end
  return ids, types, scores
end

-- Whether all jobs of a line have the same priority.
function lk.is_uniform(key)
  local first, last = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2], call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  return not first or priority_of(first) == priority_of(last)
end

-- The head of one line by age, {id, score, ...}, at most `most` jobs. `uniform`: all of it has the same priority.
function lk.aged_head(lane, key, most, uniform)
  local parts = segments(key, most, uniform)
  if not parts[2] then
    return parts[1] or {}
  end
  for i, list in ipairs(parts) do
    parts[i] = {list = list, by = list, at = 1, age = aged(tonumber(list[2]), lane.step), ty = {name = ''}}
  end
  local ids, _, scores = merge(lane, parts, most, {})
  local head = {}
  for i, id in ipairs(ids) do
    lk.push2(head, id, scores[i])
  end
  return head
end

-- From so many jobs on it pays to find out first whether their scores need to be read: Redis takes long to write numbers.
local MANY = 16

-- The next jobs of a lane in which one line alone has any, all of the same priority; nil where that is not so.
local function only_line(lane, most, limits)
  local only
  for _, ty in ipairs(lane.types) do
    if limits[ty.name] ~= 0 and call('EXISTS', ty.ready) == 1 then
      if only or ty.groups then
        return nil
      end
      only = ty
    end
  end
  local room = only and min(limits[only.name] or most, most) or 0
  if room < MANY or not lk.is_uniform(only.ready) then
    return nil
  end
  local ids, types = call('ZRANGE', only.ready, 0, room - 1), {}
  for i = 1, #ids do
    types[i] = only
  end
  return ids, types
end

-- The next jobs of a lane, in order: ids, types, and whether they are the head of one type's line; at most `most`, and of a type
-- at most what `limits` leaves.
function lk.next_of(ctx, lane, most, limits)
  local ids, types
  if most >= MANY then
    ids, types = only_line(lane, most, limits)
  end
  if ids then
    return ids, types, true
  end
  return lk.peek(ctx, lane, most, limits)
end

-- What the types of a lane may give, each as lines to be merged, and what was looked at for those that have groups.
local function parts_of(ctx, lane, most, limits)
  local parts = {}
  for _, ty in ipairs(lane.types) do
    local limit = limits[ty.name]
    local room, lists, seen = type(limit) == 'number' and min(limit, most) or most, NONE, nil
    if room > 0 and ty.groups then
      lists = {}
      lists[1], seen = lk.peek_groups(ctx, ty, room)
    elseif room > 0 then
      lists = segments(ty.ready, room)
    end
    for _, list in ipairs(lists) do
      if list[1] then
        parts[#parts + 1] = {list = list, by = list, ty = ty, at = 1, seen = seen}
      end
    end
  end
  return parts
end

-- As lk.next_of, and the scores by which they go. `ranked`: the lane competes with others by them.
function lk.peek(ctx, lane, most, limits, ranked)
  local parts = parts_of(ctx, lane, most, limits)
  if not parts[1] then
    return {}, {}, false, {}
  end
  -- What competes with nothing goes by nothing.
  if ranked or parts[1].ty ~= parts[#parts].ty then
    for _, part in ipairs(parts) do
      part.by = part.seen and lk.rank_groups(ctx, part.ty, part.list, part.seen) or part.list
    end
  end
  if not parts[2] then
    local part, ids, types, scores = parts[1], {}, {}, {}
    for i = 1, #part.list, 2 do
      local n = (i + 1) / 2
      ids[n], types[n], scores[n] = part.list[i], part.ty, tonumber(part.by[i + 1])
    end
    return ids, types, not part.ty.groups, scores
  end
  for _, part in ipairs(parts) do
    part.age = aged(tonumber(part.by[2]), lane.step)
  end
  local ids, types, scores = merge(lane, parts, most, limits)
  return ids, types, false, scores
end

-- How many jobs with this very score go before the one with this id.
local function twins_ahead(line, score, id)
  local twins = call('ZCOUNT', line, score, score)
  if twins == 0 then
    return 0
  end
  local first = call('ZCOUNT', line, '-inf', '(' .. score)
  local behind = lk.rank_among_twins(line, first, first + twins, id)
  -- It may be one of them.
  local last = behind > first and call('ZRANGE', line, behind - 1, behind - 1)[1]
  return behind - first - (last == id and 1 or 0)
end

-- How many jobs of a line go before the one with this score and id, in a lane with this step.
function lk.ahead_in(line, step, score, id)
  local age, ahead = aged(score, step), 0
  for priority = 0, 9 do
    -- The due time at which a job of this priority is as old as ours.
    local due = age - priority * step
    if due >= 0 then
      local base = priority * lk.PRIORITY_STEP
      local same = lk.digits(base + due)
      ahead = ahead + call('ZCOUNT', line, lk.digits(base), '(' .. same)
      ahead = ahead + twins_ahead(line, same, id)
    end
  end
  return ahead
end

-- How many ready jobs of the lane go before the one with this score and id.
function lk.ahead_of(lane, score, id)
  local ahead = 0
  for _, ty in ipairs(lane.types) do
    ahead = ahead + lk.ahead_in(ty.ready, lane.step, score, id)
  end
  return ahead
end

-- Takes jobs out of their lines. `alone`: they are the first of one line. `bad`: ids that were not handed out.
function lk.take(ctx, ids, types, count, alone, bad)
  if count == 0 then
    return
  end
  if alone then
    call('ZREMRANGEBYRANK', types[1].ready, 0, count - 1)
    return
  end
  local by_type = {}
  for i = 1, count do
    local members = by_type[types[i]] or {}
    members[#members + 1] = ids[i]
    by_type[types[i]] = members
  end
  for ty, members in pairs(by_type) do
    call('ZREM', ty.ready, unpack_list(members))
    if ty.groups then
      lk.groups_served(ctx, ty, members, bad)
    end
  end
end

-- How many of `most` jobs come from which lane when the job with the least time left of its lane's promise goes first:
-- {lane, count}, the most urgent lane first.
function lk.most_urgent(ctx, lanes, most, limits)
  local lines, turns = {}, {}
  for i, lane in ipairs(lanes) do
    -- As in the listed order, a key that something else overwrote stops no other lane.
    local known, room = lk.try(ctx, lk.lane_room, lane, most)
    local scores = {}
    if known and room > 0 then
      scores = select(5, lk.try(ctx, lk.peek, lane, room, limits, lanes[2] ~= nil)) or scores
    end
    if scores[1] then
      -- Critical lanes go before all others, as they are listed.
      local base = lane.critical and -1e15 * (#lanes + 1 - i) or lane.promise
      lines[#lines + 1] = {lane = lane, scores = scores, count = 0, base = base, left = select(2, split(scores[1])) + base}
    end
  end
  for _ = 1, most do
    local best
    for _, line in ipairs(lines) do
      if line.left and (not best or line.left < best.left) then
        best = line
      end
    end
    if not best then
      break
    end
    if best.count == 0 then
      turns[#turns + 1] = best
    end
    best.count = best.count + 1
    local score = best.scores[best.count + 1]
    best.left = score and select(2, split(score)) + best.base
  end
  return turns
end
