-- What a new policy, a clock that went back and time itself mean for groups (see groups.lua): each a bounded step at a time, for
-- groups may be as many as customers.

-- Jobs of a line that one call looks at.
local REGROUP = 200

-- Keeps where a step ended; at the end the flag goes. Whether there is more to do.
local function keep_place(ctx, flag, place)
  local more = place ~= ''
  lk.gates(ctx)[flag] = more and place or nil
  if more then
    call('HSET', ctx.keys.gates, flag, place)
  else
    call('HDEL', ctx.keys.gates, flag)
  end
  return more
end

-- Those of the jobs of a line that do not stand in their group's: {score, id, ...}. A group whose line something else overwrote is
-- set aside, and its jobs wait with it.
local function strays(ctx, ty, head, ids)
  local lost, unread = {}, {}
  for i, group in ipairs(ids[1] and lk.groups_of(ctx, ids) or {}) do
    local score = not unread[group] and redis.pcall('ZSCORE', lk.line_of_group(ty, group), ids[i])
    if type(score) == 'table' then
      unread[group] = true
      lk.set_aside(ctx, ty, group, score.err)
    elseif score == false and not unread[group] then
      lk.push2(lost, head[2 * i], ids[i])
    end
  end
  return lost
end

-- A type came to have a key while jobs stood in its line: those are put into lines of groups, a bounded step at a time. The
-- flag says after which of them to go on; whoever comes to stand before that is put into its group's line as it comes. Returns
-- whether there is more to do.
function lk.regroup(ctx, ty)
  local flag = 'ungrouped:' .. ty.name
  local state = lk.gates(ctx)[flag]
  if not state then
    return false
  end
  local ids, rest, head = lk.page(ty.ready, REGROUP, state)
  local named = ids[1] and lk.name_groups(ctx, ty, ids) or 0
  if named < #ids then
    ids, rest = {unpack_list(ids, 1, named)}, head[2 * named] .. ':' .. head[2 * named - 1]
  end
  local lost = strays(ctx, ty, head, ids)
  if lost[1] then
    lk.line_up(ctx, ty, lost)
  end
  return keep_place(ctx, flag, rest)
end

-- How many jobs of each group of these types run, counted anew from the leases.
function lk.recount_groups(ctx, types)
  local ids = {}
  for _, ty in ipairs(types) do
    ids[ty.name] = {}
    call('DEL', ty.groups.running)
  end
  local all = types[1] and call('HGETALL', ctx.keys.leases) or NONE
  for i = 1, #all, 2 do
    local lease = lk.read_lease(all[i + 1])
    local own = lease and ids[lease[L_TYPE]]
    if own then
      own[#own + 1] = all[i]
    end
  end
  for _, ty in ipairs(types) do
    local own = ids[ty.name]
    for from = 1, #own, 200 do
      for _, group in ipairs(lk.groups_of(ctx, {unpack_list(own, from, min(from + 199, #own))})) do
        call('HINCRBY', ty.groups.running, group, 1)
      end
    end
  end
end

-- Whoever stands aside is judged anew by the next claims, the last first. The flag says after which of them to go on.
function lk.doubt_type(ctx, ty)
  if call('EXISTS', ty.groups.aside) == 1 then
    local flag = 'doubted:' .. ty.name
    lk.gates(ctx)[flag] = ''
    call('HSET', ctx.keys.gates, flag, '')
  end
end

function lk.doubted(ctx, ty)
  return lk.gates(ctx)['doubted:' .. ty.name] ~= nil
end

-- Judges some of those that are in doubt, at most `most`.
function lk.judge_doubted(ctx, ty, most)
  local flag = 'doubted:' .. ty.name
  local state = lk.gates(ctx)[flag]
  if not state then
    return
  end
  local groups, rest = lk.page(ty.groups.aside, most, state, true)
  keep_place(ctx, flag, rest)
  lk.place_groups(ctx, ty, groups)
end

-- The clock went back: until when groups stand aside says nothing any more.
function lk.doubt_groups(ctx)
  for _, ty in pairs(ctx.policy.types) do
    if ty.groups then
      lk.doubt_type(ctx, ty)
    end
  end
end

-- Lines of groups that one sweep removes.
local LINES = 1000

-- Removes lines that groups of a type left behind, at most `most`; whether there are more.
function lk.remove_lines(keys, name, most)
  local groups = lk.group_keys(keys, name)
  for _, index in ipairs({groups.turns, groups.aside}) do
    local some = most > 0 and call('ZRANGE', index, 0, most - 1) or NONE
    for from = 1, #some, 200 do
      local lines = {}
      for i = from, min(from + 199, #some) do
        lines[#lines + 1] = groups.line_of .. some[i]
      end
      call('UNLINK', unpack_list(lines))
    end
    if some[1] then
      call('ZREMRANGEBYRANK', index, 0, #some - 1)
    end
    most = most - #some
  end
  return call('EXISTS', groups.turns, groups.aside) > 0
end

-- A type lost its key: its jobs stand in the type's line alone. Sweeps remove what is too many of the lines that its groups had;
-- the flag says of which types.
local function abandon(ctx, ty)
  call('UNLINK', ty.groups.running, ty.groups.arrivals, ty.groups.holds, ty.groups.classes)
  call('HDEL', ctx.keys.gates, 'ungrouped:' .. ty.name, 'doubted:' .. ty.name)
  if lk.remove_lines(ctx.keys, ty.name, LINES) then
    call('HSET', ctx.keys.gates, 'abandoned:' .. ty.name, '1')
  end
end

-- Removes lines of types that lost their key; whether there are more.
function lk.forget_abandoned(ctx)
  local more = false
  for field in pairs(lk.gates(ctx)) do
    local name = string.match(field, '^abandoned:(.+)$')
    if name then
      more = lk.remove_lines(ctx.keys, name, LINES)
      if not more then
        call('HDEL', ctx.keys.gates, field)
      end
      break
    end
  end
  return more
end

-- A type has a key that it had not. What an earlier one left behind goes first, as a whole: such lines would be taken for its own.
local function begin(ctx, ty)
  while lk.remove_lines(ctx.keys, ty.name, LINES) do
  end
  call('HDEL', ctx.keys.gates, 'abandoned:' .. ty.name)
  if call('EXISTS', ty.ready) == 1 then
    call('HSET', ctx.keys.gates, 'ungrouped:' .. ty.name, '')
  end
end

-- A new policy: types that lost their key forget their groups; those that have one now, and had none, are regrouped; and all
-- groups are judged by the new bounds.
function lk.note_groups(ctx, old)
  for name, before in pairs(old and old.types or {}) do
    local ty = ctx.policy.types[name]
    if before.groups and not (ty and ty.groups) then
      abandon(ctx, before)
    end
  end
  local new = {}
  for name, ty in pairs(ctx.policy.types) do
    local before = old and old.types[name]
    if ty.groups and not (before and before.groups) then
      begin(ctx, ty)
      new[#new + 1] = ty
    elseif ty.groups then
      lk.doubt_type(ctx, ty)
    end
  end
  lk.recount_groups(ctx, new)
end

-- Groups picked at random that one sweep looks at.
local PICKED = 100

-- Forgets of the cells picked those whose time (in 1/`unit` ms) is over; whether most were.
local function forget_cells(ctx, key, unit)
  local found, old = call('HRANDFIELD', key, PICKED, 'WITHVALUES'), {}
  for i = 1, #found, 2 do
    if (tonumber(found[i + 1]) or 0) <= ctx.now * unit then
      old[#old + 1] = found[i]
    end
  end
  lk.write('HDEL', key, old)
  return #old > PICKED / 2 and #found == 2 * PICKED
end

-- The groups of jobs that wait for their time, as a set; nil where those are too many to look at.
local function groups_of_scheduled(ctx, ty)
  local found = {}
  if call('ZCARD', ty.scheduled) > 10 * PICKED then
    return nil
  end
  local ids = call('ZRANGE', ty.scheduled, 0, -1)
  for _, group in ipairs(lk.groups_of(ctx, ids)) do
    found[group] = true
  end
  return found
end

-- Forgets of the classes picked those of groups that have no job and no rate that remembers one; whether most were such.
local function forget_classes(ctx, ty)
  local picked, old = call('HRANDFIELD', ty.groups.classes, PICKED), {}
  local later = picked[1] and groups_of_scheduled(ctx, ty)
  if not later then
    return false
  end
  local arrivals, running = call('HMGET', ty.groups.arrivals, unpack_list(picked)), call('HMGET', ty.groups.running, unpack_list(picked))
  for i, group in ipairs(picked) do
    if not (arrivals[i] or running[i] or later[group]) and call('EXISTS', lk.line_of_group(ty, group)) == 0 then
      old[#old + 1] = group
    end
  end
  lk.write('HDEL', ty.groups.classes, old)
  return #old > PICKED / 2 and #picked == PICKED
end

-- Forgets what groups remember once it says nothing any more: of some picked at random, and whether there is likely more.
function lk.forget_groups(ctx, ty)
  local rates = forget_cells(ctx, ty.groups.arrivals, 1000)
  local holds = forget_cells(ctx, ty.groups.holds, 1)
  return forget_classes(ctx, ty) or rates or holds
end
