-- Concurrency keys: jobs of a type that share a key, rendered from the payload, form a group. Of a group at most `limit` run
-- at once, it may have a rate of its own, and a dependency may ask for patience for it alone. Groups take turns: of those that
-- may go, the one that waited longest since its last job goes first, however many jobs it has. One that comes into line, or may
-- go again, is the last of the round.
--
-- A grouped job stands in its type's line like any other, from which figures, searches and places are read. Beside it:
--   y:<type>:<group> zset: the group's own line     yt:<type> zset: groups that may go, by turn
--   yp:<type> zset: groups that may not, by when they may (ms; 'inf': when one of their jobs ends)
--   yr:<type> hash: group -> running     ya:<type> hash: group -> arrival time of its rate, µs
--   yh:<type> hash: group -> hold "until.length", ms, which compares as its end     yc:<type> hash: group -> class of its rate     yg hash: id -> group

local FOREVER = '+inf'
-- For how long a group stands aside whose line cannot be read, ms.
local ASIDE = 5000

local function line_of(ty, group)
  return ty.groups.line_of .. group
end
lk.line_of_group = line_of

-- Fields of a hash, by place; `absent` in place of what is not there.
local function fields(key, names, absent)
  local found = names[1] and call('HMGET', key, unpack_list(names)) or {}
  for i = 1, #names do
    found[i] = found[i] or absent
  end
  return found
end

-- The groups of jobs of a grouped type, by place; '' where none is known.
local function groups_of(ctx, ids)
  return fields(ctx.keys.group_of, ids, '')
end
lk.groups_of = groups_of

-- The rate of a group: its class may have one of its own.
local function rate_of(ty, group)
  local spec = ty.groups.rate
  if spec and spec.by then
    local class = call('HGET', ty.groups.classes, group)
    local limit = class and spec.by.limits[class]
    if limit then
      return {limit = limit, per = spec.per, burst = max(1, spec.burst * limit / spec.limit)}
    end
  end
  return spec
end

lk.group_rate = rate_of

-- Until when the group is held, if it is. Most types hold none.
local function held_until(ctx, ty, group)
  local any = ctx.holds or {}
  ctx.holds = any
  if any[ty] == nil then
    any[ty] = call('EXISTS', ty.groups.holds) == 1
  end
  return any[ty] and lk.hold_end(ctx, call('HGET', ty.groups.holds, group)) or nil
end

-- How many jobs of the group may go now, at most `most`; where that is none, until when it may not. Jobs that were enqueued
-- before their type had a key are in the group '', which knows no bounds. `running`: how many of the group do, where that was read.
local function room_of(ctx, ty, group, most, running)
  if group == '' then
    return most
  end
  local held = held_until(ctx, ty, group)
  if held then
    return 0, lk.digits(held)
  end
  if ty.groups.limit then
    running = running or call('HGET', ty.groups.running, group)
    most = min(most, ty.groups.limit - (tonumber(running) or 0))
    if most <= 0 then
      return 0, FOREVER
    end
  end
  local rate = rate_of(ty, group)
  if rate then
    local room, opens = lk.rate_room(ctx, rate, tonumber(call('HGET', ty.groups.arrivals, group)) or 0, most)
    if room == 0 then
      return 0, lk.digits(opens)
    end
    most = room
  end
  return most
end

lk.group_room = room_of

-- How many jobs of each group run, by place.
local function running_of(ty, groups)
  return fields(ty.groups.running, groups, '0')
end
lk.running_of_groups = running_of

-- Puts groups, no more than a call deals with, where they belong: nowhere when nothing of them waits, among those that may go, or
-- aside. By place, where the caller knows them: their new `turns`, absent, they keep those they have; how many of each are
-- `running`; whether any of them `stands` in line.
local function place_all(ctx, ty, groups, turns, running, stands)
  local go, wait, not_going, not_waiting = {}, {}, {}, {}
  running = running or (ty.groups.limit and running_of(ty, groups) or NONE)
  for i, group in ipairs(groups) do
    local waits, room, till = stands and stands[i], 0, nil
    if waits == nil then
      waits = call('EXISTS', line_of(ty, group)) == 1
    end
    if waits then
      room, till = room_of(ctx, ty, group, 1, running[i])
    end
    if room > 0 then
      go[#go + 1], go[#go + 2] = turns and turns[i] or lk.digits(lk.turn_after_all(ctx, ty)), group
    else
      not_going[#not_going + 1] = group
    end
    if waits and room <= 0 then
      wait[#wait + 1], wait[#wait + 2] = till, group
    else
      not_waiting[#not_waiting + 1] = group
    end
  end
  lk.write('ZREM', ty.groups.turns, not_going)
  lk.write('ZREM', ty.groups.aside, not_waiting)
  if turns then
    lk.write('ZADD', ty.groups.turns, go)
  elseif go[1] then
    call('ZADD', ty.groups.turns, 'NX', unpack_list(go))
  end
  lk.write('ZADD', ty.groups.aside, wait)
end
lk.place_groups = place_all

local function place(ctx, ty, group)
  place_all(ctx, ty, {group})
end
lk.place_group = place

-- A group whose line cannot be read is tried again after a while.
function lk.set_aside(ctx, ty, group, failure)
  call('ZREM', ty.groups.turns, group)
  call('ZADD', ty.groups.aside, lk.digits(ctx.now + ASIDE), group)
  lk.failed(ctx, failure)
end

-- Bytes of records that one call reads for groups.
local NAMING_BYTES = 1048576

-- Jobs from before their type had a key get the group that their payloads say; those that say none are in the nameless one, which knows no
-- bounds. Returns how many of the ids, from the first, have one by then: reading takes time.
function lk.name_groups(ctx, ty, ids)
  local unnamed = {}
  for i, group in ipairs(call('HMGET', ctx.keys.group_of, unpack_list(ids))) do
    unnamed[#unnamed + 1] = not group and i or nil
  end
  local some, named = {}, {}
  for i, at in ipairs(unnamed) do
    some[i] = ids[at]
  end
  local records, pasts, read = lk.read_within(ctx, some, NAMING_BYTES)
  for i = 1, read do
    local job, at = lk.read_job(records[i], pasts[i])
    lk.push2(named, some[i], job and lk.group_in(ty, records[i], at) or '')
  end
  lk.write('HSET', ctx.keys.group_of, named)
  return read < #some and unnamed[read + 1] - 1 or #ids
end

-- The groups of jobs, in the order in which they come, and the places of each one's jobs in the list.
local function by_group(ctx, ids)
  local places, order = {}, {}
  for i, group in ipairs(groups_of(ctx, ids)) do
    if not places[group] then
      places[group] = {}
      order[#order + 1] = group
    end
    local own = places[group]
    own[#own + 1] = i
  end
  return order, places
end

-- Jobs of a grouped type came into line: {score, id, ...} as they went into the type's own.
function lk.line_up(ctx, ty, pairs_of)
  local ids, scores = {}, {}
  for i = 1, #pairs_of, 2 do
    scores[#scores + 1], ids[#ids + 1] = pairs_of[i], pairs_of[i + 1]
  end
  local order, places = by_group(ctx, ids)
  if places[''] then
    lk.name_groups(ctx, ty, ids)
    order, places = by_group(ctx, ids)
  end
  for _, group in ipairs(order) do
    local entries = {}
    for _, i in ipairs(places[group]) do
      lk.push2(entries, scores[i], ids[i])
    end
    -- A line that something else overwrote fails no other's jobs.
    lk.number(ctx, 'ZADD', line_of(ty, group), unpack_list(entries))
  end
  place_all(ctx, ty, order)
end

-- Jobs of a grouped type left the line without being handed out.
function lk.line_down(ctx, ty, ids)
  local order, places = by_group(ctx, ids)
  for _, group in ipairs(order) do
    for _, i in ipairs(places[group]) do
      lk.number(ctx, 'ZREM', line_of(ty, group), ids[i])
    end
  end
  place_all(ctx, ty, order)
end

-- Groups whose time has come, or is in doubt, may go again; at most `most` of either.
local function let_in(ctx, ty, most)
  lk.try(ctx, lk.judge_doubted, ty, most)
  for _, group in ipairs(call('ZRANGEBYSCORE', ty.groups.aside, '-inf', ctx.now, 'LIMIT', 0, most)) do
    place(ctx, ty, group)
  end
end
lk.let_groups_in = let_in

-- Jobs say what the class of their group's rate is: {type, {group, class}, ...}, in order, for the last one decides, also where it
-- names none. Groups are judged anew by another class at once: the jobs that say so may come into line much later.
function lk.commit_classes(ctx, words)
  local changed = {}
  for i = 1, #words, 2 do
    local ty, group, class = words[i], words[i + 1][1], words[i + 1][2]
    if (call('HGET', ty.groups.classes, group) or nil) ~= class then
      call(class and 'HSET' or 'HDEL', ty.groups.classes, unpack_list({group, class}))
      lk.push2(changed, ty, group)
    end
  end
  for i = 1, #changed, 2 do
    place(ctx, changed[i], changed[i + 1])
  end
end

-- A running job that was counted in the nameless group turns out to be of this one, which may be at its limit now: then it
-- stands aside, and is the last of the round when that job ends.
function lk.group_found(ctx, ty, group)
  if (tonumber(call('HGET', ty.groups.running, '')) or 0) > 0 then
    call('HINCRBY', ty.groups.running, '', -1)
    call('HINCRBY', ty.groups.running, group, 1)
    place(ctx, ty, group)
  end
end

-- Attempts of the type ended.
function lk.groups_freed(ctx, ty, ids)
  local order, places = by_group(ctx, ids)
  local left, none = {}, {}
  for i, running in ipairs(running_of(ty, order)) do
    local rest = (tonumber(running) or 0) - #places[order[i]]
    if rest > 0 then
      lk.push2(left, order[i], rest)
    else
      none[#none + 1] = order[i]
    end
  end
  lk.write('HSET', ty.groups.running, left)
  lk.write('HDEL', ty.groups.running, none)
  -- Those that may go already may do so now all the more.
  local others = {}
  for i, turn in ipairs(call('ZMSCORE', ty.groups.turns, unpack_list(order))) do
    if not turn then
      others[#others + 1] = order[i]
    end
  end
  place_all(ctx, ty, others)
end

-- A dependency asked for patience for the group of this job.
function lk.hold_group(ctx, ty, id, delay)
  local group = groups_of(ctx, {id})[1]
  local till = max(held_until(ctx, ty, group) or 0, ctx.now + delay)
  ctx.holds = nil
  call('HSET', ty.groups.holds, group, fmt('%.0f.%018.0f', till, till - ctx.now))
  place(ctx, ty, group)
end

-- When the next group that waits aside may go; nil when that is not a matter of time.
function lk.groups_open(ctx, ty)
  local head = call('ZRANGE', ty.groups.aside, 0, 0, 'WITHSCORES')
  local till = head[2] and tonumber(head[2])
  return till and till < 1e15 and till or nil
end

-- Whether any group may go now.
function lk.groups_wait(ctx, ty)
  let_in(ctx, ty, 64)
  return call('EXISTS', ty.groups.turns) == 1 or lk.gates(ctx)['ungrouped:' .. ty.name] ~= nil or lk.doubted(ctx, ty)
end
