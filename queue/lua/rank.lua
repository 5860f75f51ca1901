-- By what a type with concurrency keys goes: among the types of its lane, and its lane among others by deadline.
--
-- Its keys take turns, so that the job that goes next is not always the first of its type. Were the type to go by that one, the jobs
-- of a key would wait behind all that came before a late or less urgent job of another. So it goes by the first of its jobs that may
-- go, whosever turn it is; what may not go lends it nothing, or it would hold its place before others for jobs that stay.

-- How many jobs, and how many groups, are looked at beside those that the claim may take.
local BESIDE = 16

-- Whether a job goes before another of its lane.
local function precedes(step, id, score, other, other_score)
  local age, other_age = lk.aged(tonumber(score), step), lk.aged(tonumber(other_score), step)
  return age < other_age or (age == other_age and lk.before(id, other))
end

-- Whether jobs of a group that has its turn may go beside those that the claim may take of its line, where it looked at that.
local function goes_on(ctx, ty, group, line)
  if line then
    return line.room > line.at
  end
  return lk.group_room(ctx, ty, group, 1) > 0
end

-- The first of these jobs that may go: {id, score}.
local function first_of(ctx, ty, ids, scores, lines)
  local groups, may = lk.groups_of(ctx, ids), {}
  local turns = call('ZMSCORE', ty.groups.turns, unpack_list(groups))
  for i, group in ipairs(groups) do
    if may[group] == nil then
      may[group] = turns[i] and goes_on(ctx, ty, group, lines[group]) or false
    end
    -- One that its group's line has lost is not handed out before a sweep puts it back.
    if may[group] and call('ZSCORE', lk.line_of_group(ty, group), ids[i]) then
      return {ids[i], scores[i]}
    end
  end
end

-- The first of all jobs whose groups have their turns soon: {id, score}.
local function first_by_turn(ctx, ty, seen, lines)
  local first
  for _, group in ipairs(call('ZRANGE', ty.groups.turns, 0, #seen.lines + BESIDE - 1)) do
    local line, head = lines[group], NONE
    if goes_on(ctx, ty, group, line) then
      head = line and {line.heads[2 * line.at + 1], line.heads[2 * line.at + 2]}
        or lk.aged_head(ty.lane, lk.line_of_group(ty, group), 1, seen.uniform)
    end
    if head[1] and (not first or precedes(ty.lane.step, head[1], head[2], first[1], first[2])) then
      first = head
    end
  end
  return first
end

-- The first job that may go beside the listed ones, {id, score}, where it goes before the last of those: then it does before some of
-- them. Mostly it is among the first of the type's line. Where those all belong to groups that may not go, the groups are asked
-- that have their turns soon; beyond so many of them the type goes by less than it might, and a round later by what it may.
local function first_beside(ctx, ty, list, seen)
  local step, id, score = ty.lane.step, list[#list - 1], list[#list]
  local head, ids, scores, lines = lk.aged_head(ty.lane, ty.ready, #list / 2 + BESIDE, seen.uniform), {}, {}, {}
  for i = 1, #head, 2 do
    if #ids == BESIDE or not precedes(step, head[i], head[i + 1], id, score) then
      break
    elseif not ctx.peeked[ty][head[i]] then
      ids[#ids + 1], scores[#scores + 1] = head[i], head[i + 1]
    end
  end
  if not ids[1] then
    return nil
  end
  for _, line in ipairs(seen.lines) do
    lines[line.group] = line
  end
  local first = first_of(ctx, ty, ids, scores, lines)
  if first or #ids < BESIDE then
    return first
  end
  return first_by_turn(ctx, ty, seen, lines)
end

-- By what each of a grouped type's next jobs goes, {id, score, ...} by place: by the first of those that are left then. `seen`: what
-- lk.peek_groups looked at.
function lk.rank_groups(ctx, ty, list, seen)
  local by, first = {}, first_beside(ctx, ty, list, seen)
  for i = #list - 1, 1, -2 do
    if not first or precedes(ty.lane.step, list[i], list[i + 1], first[1], first[2]) then
      first = {list[i], list[i + 1]}
    end
    by[i], by[i + 1] = first[1], first[2]
  end
  return by
end
