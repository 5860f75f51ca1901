-- lk_find root state or '' type or '' key or '' limit cursor or ''  ->  {now, views, next cursor or ''}
--
-- By key: the present owner. Else jobs of a state, over one type or all, in index order; without a state every state in
-- turn. A cursor names a place, `<index>:<score>:<id>`, not a rank, so pages neither skip nor repeat jobs that stay put.

local FIND_STATES = {'running', 'ready', 'scheduled', 'dead', 'discarded', 'succeeded', 'cancelled'}

-- First rank whose member comes after `id` among those of one score, which stand at ranks from..to-1 sorted by member: in few steps,
-- however many they are.
function lk.rank_among_twins(key, from, to, id, newest_first)
  local command = newest_first and 'ZREVRANGE' or 'ZRANGE'
  while from < to do
    local middle = floor((from + to) / 2)
    local member = call(command, key, middle, middle)[1]
    local after = member == nil or (newest_first and lk.before(member, id)) or (not newest_first and lk.before(id, member))
    if after then
      to = middle
    else
      from = middle + 1
    end
  end
  return from
end

-- Rank at which the page after (score, id) starts; the job itself may have left the index meanwhile.
function lk.rank_after(key, score, id, newest_first)
  local before = newest_first and call('ZCOUNT', key, '(' .. score, '+inf') or call('ZCOUNT', key, '-inf', '(' .. score)
  return lk.rank_among_twins(key, before, before + call('ZCOUNT', key, score, score), id, newest_first)
end

-- Up to `limit` members after the cursor `<score>:<member>`, from the first where that is none; the cursor of the last one ('' at the
-- end), and the members with their scores. A place, not a rank: members come and go before it meanwhile.
function lk.page(key, limit, cursor, newest_first)
  local score, id = string.match(cursor, '^([^:%s]+):(.*)$')
  local number = tonumber(score)
  local rank = number and number == number and lk.rank_after(key, score, id, newest_first) or 0
  local found = call(newest_first and 'ZREVRANGE' or 'ZRANGE', key, rank, rank + limit - 1, 'WITHSCORES')
  local ids = {}
  for i = 1, #found, 2 do
    ids[#ids + 1] = found[i]
  end
  return ids, #ids >= limit and found[#found] .. ':' .. found[#found - 1] or '', found
end

-- The indexes a search goes through: {state, key, newest first}.
local function indexes(ctx, state, type_name)
  local names = type_name ~= '' and {type_name} or call('SMEMBERS', ctx.keys.types)
  table.sort(names)
  local out = {}
  for _, each in ipairs(state ~= '' and {state} or FIND_STATES) do
    if each == 'running' then
      out[#out + 1] = {each, ctx.keys.running}
    elseif each == 'dead' and type_name == '' then
      out[#out + 1] = {each, ctx.keys.dead, true}
    elseif each == 'discarded' and type_name == '' then
      out[#out + 1] = {each, ctx.keys.discarded, true}
    else
      for _, name in ipairs(names) do
        local ty = lk.type_of(ctx.policy, name)
        -- Due jobs that nobody promoted yet are ready, though they stand in the schedule.
        if each == 'ready' then
          out[#out + 1] = {each, ty.ready}
          out[#out + 1] = {each, ty.scheduled}
        elseif each == 'scheduled' then
          out[#out + 1] = {each, ty.scheduled}
        elseif each == 'dead' then
          out[#out + 1] = {each, ty.dead, true}
        elseif each == 'discarded' then
          out[#out + 1] = {each, ty.discarded, true}
        else
          out[#out + 1] = {each, ty.finished, true}
        end
      end
    end
  end
  return out
end

local function find_by_key(ctx, key, state, type_name)
  local entry = call('HGET', ctx.keys.keys, key)
  if not entry then
    return {}
  end
  local id = string.match(entry, '^[^ ]+')
  local views, types = lk.views(ctx, {id}, false)
  local view = views[1]
  if not view or (state ~= '' and view[2] ~= state) or (type_name ~= '' and types[1] ~= type_name) then
    return {}
  end
  return {view}
end

local function find_by_index(ctx, state, type_name, limit, cursor)
  local list, views = indexes(ctx, state, type_name), {}
  local at, place = string.match(cursor, '^(%d+)|(.*)$')
  at, place = tonumber(at) or 1, place or ''
  local budget, bytes = 4 * limit, 0
  while list[at] do
    local index = list[at]
    local ids, rest = lk.page(index[2], limit - #views, place, index[3])
    budget = budget - #ids - 1
    local found, types, read = lk.views(ctx, ids, false)
    bytes = bytes + read
    for i, view in ipairs(found) do
      if view and view[2] == index[1] and (type_name == '' or types[i] == type_name) then
        views[#views + 1] = view
      end
    end
    place = rest
    if #found < #ids then
      -- What is large fills a page by itself.
      local last = ids[#found]
      return views, at .. '|' .. call('ZSCORE', index[2], last) .. ':' .. last
    elseif rest == '' then
      at = at + 1
    end
    if #views >= limit or budget <= 0 or bytes >= lk.CLAIM_BYTES then
      break
    end
  end
  return views, list[at] and (at .. '|' .. place) or ''
end

local function search(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  local state, type_name, key, limit, cursor = args[1], args[2], args[3], tonumber(args[4]), args[5]
  if #args ~= 5 or not limit or not (limit >= 1) then
    return lk.error('LKARGS', 'lk_find takes state, type, key, limit and cursor; the limit is 1 to 200')
  end
  if key ~= '' then
    return {ctx.now, find_by_key(ctx, key, state, type_name), ''}
  end
  local views, next_cursor = find_by_index(ctx, state, type_name, floor(min(limit, lk.MAX_BATCH)), cursor)
  return {ctx.now, views, next_cursor}
end

lk.register('lk_find', search, {'no-writes'})
