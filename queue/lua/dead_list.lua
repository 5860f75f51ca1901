-- lk_dead_list root filter shape limit cursor or ''  ->  {now, found, next cursor or ''[, ids of which no record can be read]}
--
-- filter: '' or JSON of {lane, type, fingerprint, state: open | acknowledged | discarded, since, until (ms, both included),
-- key (`*` stands for anything), oldestFirst}. Without a state: all that nobody discarded. Times are those of the death; of
-- discarded letters, those of the discard.
-- shape: 'jobs' (views), 'ids', or 'groups': {type, fingerprint, count, first, last, id of the last} of what this call saw,
-- to be added up by the caller.
-- A call looks at a bounded number of letters, so a page may have fewer than `limit`, even none: it is the last one when
-- there is no cursor. Cursors name a place, as those of lk_find.

-- Letters that one call looks at.
local SCAN = 500
local NAMES = {
  lane = 'string', type = 'string', fingerprint = 'string', state = 'string', key = 'string', since = 'number',
  ['until'] = 'number', oldestFirst = 'boolean',
}
local STATES = {open = 'o', acknowledged = 'a', discarded = 'd'}
local SHAPES = {jobs = true, ids = true, groups = true}

-- A pattern as its parts between the asterisks.
local function read_pattern(text)
  local parts, from = {}, 1
  while true do
    local at = find(text, '*', from, true)
    parts[#parts + 1] = sub(text, from, at and at - 1)
    if not at then
      return parts
    end
    from = at + 1
  end
end

-- Whether the parts stand in the text in their order, the first at its begin and the last at its end. Finding each as early
-- as it comes is enough, so this never tries twice.
local function matches(parts, text)
  local count = #parts
  if count == 1 then
    return text == parts[1]
  end
  local first, last = parts[1], parts[count]
  if sub(text, 1, #first) ~= first then
    return false
  end
  local at = #first + 1
  for i = 2, count - 1 do
    local from, to = find(text, parts[i], at, true)
    if not from then
      return false
    end
    at = to + 1
  end
  return #text - #last + 1 >= at and sub(text, #text - #last + 1) == last
end

-- The filter in use form; or nil and what is wrong.
local function read_filter(ctx, text)
  if text == '' then
    return {index = ctx.keys.dead}
  end
  local ok, doc = lk.from_json(text)
  -- An empty array decodes like an empty object.
  if not ok or not find(text, '^%s*{') then
    return nil, 'the filter must be a JSON object'
  end
  for name, value in pairs(doc) do
    if not NAMES[name] or type(value) ~= NAMES[name] then
      return nil, 'the filter has lane, type, fingerprint, state, key (texts), since, until (numbers) and oldestFirst; ' ..
        lk.clip(lk.clean(tostring(name)), 64) .. ' is none of these'
    end
  end
  local state = doc.state and STATES[doc.state]
  if doc.state and not state then
    return nil, 'the state of a dead letter is open, acknowledged or discarded'
  end
  if doc.key and #doc.key > 512 then
    return nil, 'the pattern of keys is longer than 512 bytes'
  end
  local ty = doc.type and lk.type_of(ctx.policy, doc.type)
  local index = state == 'd' and (ty and ty.discarded or ctx.keys.discarded) or (ty and ty.dead or ctx.keys.dead)
  return {
    index = index, lane = doc.lane, fingerprint = doc.fingerprint, state = state ~= 'd' and state or nil,
    key = doc.key and read_pattern(doc.key), since = doc.since, till = doc['until'], oldest = doc.oldestFirst,
    reads_cards = (doc.lane or doc.fingerprint or doc.key or (state and state ~= 'd')) and true or false,
  }
end

local function passes(ctx, filter, card)
  local ty = ctx.policy.types[card[2]]
  return (not filter.state or card[4] == filter.state)
    and (not filter.fingerprint or card[3] == filter.fingerprint)
    and (not filter.lane or (ty ~= nil and ty.lane ~= nil and ty.lane.name == filter.lane))
    and (not filter.key or matches(filter.key, card[5]))
end

-- Where a walk begins.
local function first_rank(filter, cursor)
  local score, id = string.match(cursor, '^([^:%s]+):(.*)$')
  local number = tonumber(score)
  if number and number == number then
    return lk.rank_after(filter.index, score, id, not filter.oldest)
  elseif filter.oldest and filter.since then
    return call('ZCOUNT', filter.index, '-inf', '(' .. lk.digits(filter.since))
  elseif not filter.oldest and filter.till then
    return call('ZCOUNT', filter.index, '(' .. lk.digits(filter.till), '+inf')
  end
  return 0
end

-- Hands up to `most` letters that pass to `take(id, time, card)`; the cursor after the last one looked at, '' at the end.
local function walk(ctx, filter, with_cards, most, cursor, take)
  local rank, size = first_rank(filter, cursor), with_cards and SCAN or most
  local found = call(filter.oldest and 'ZRANGE' or 'ZREVRANGE', filter.index, rank, rank + size - 1, 'WITHSCORES')
  local ids, taken, last = {}, 0, ''
  for i = 1, #found, 2 do
    ids[#ids + 1] = found[i]
  end
  local card_at = with_cards and lk.cards_of(ctx, ids)
  for i, id in ipairs(ids) do
    local at = tonumber(found[2 * i])
    if (filter.oldest and filter.till and at > filter.till) or (not filter.oldest and filter.since and at < filter.since) then
      return ''
    end
    local card
    if card_at then
      card = card_at(i)
      if card == false then
        return last
      end
    end
    last = found[2 * i] .. ':' .. id
    if not card_at or (card and passes(ctx, filter, card)) then
      take(id, at, card)
      taken = taken + 1
      if taken >= most then
        return last
      end
    end
  end
  return #ids >= size and last or ''
end

local function group(groups, id, at, card)
  -- Something else may have written any number there.
  at = lk.whole(at) or 0
  local name = card[2] .. '\0' .. card[3]
  local own = groups[name]
  if not own then
    own = {card[2], card[3], 0, at, at, id}
    groups[name] = own
    groups[#groups + 1] = own
  end
  own[3], own[4] = own[3] + 1, min(own[4], at)
  if at > own[5] then
    own[5], own[6] = at, id
  end
end

local function dead_list(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  local shape, limit, cursor = args[2], tonumber(args[3]), args[4]
  if #args ~= 4 or not SHAPES[shape] or not limit or not (limit >= 1) then
    return lk.error('LKARGS', 'lk_dead_list takes filter, shape (jobs, ids or groups), limit and cursor; the limit is 1 to 200')
  end
  local filter, wrong = read_filter(ctx, args[1])
  if not filter then
    return lk.error('LKARGS', wrong)
  end
  local found, times = {}, {}
  if shape == 'groups' then
    cursor = walk(ctx, filter, true, SCAN, cursor, function(id, at, card)
      group(found, id, at, card)
    end)
    return {ctx.now, {unpack_list(found)}, cursor}
  end
  cursor = walk(ctx, filter, filter.reads_cards, floor(min(limit, lk.MAX_BATCH)), cursor, function(id, at)
    found[#found + 1], times[#times + 1] = id, at
  end)
  if shape == 'ids' then
    return {ctx.now, found, cursor}
  end
  local views, unreadable, all = {}, {}, (lk.views(ctx, found, false))
  if #all < #found then
    cursor = lk.digits(times[#all]) .. ':' .. found[#all]
  end
  for i, view in ipairs(all) do
    -- They count as dead letters until somebody discards them, so the list must not hide them.
    local list = view and views or unreadable
    list[#list + 1] = view or found[i]
  end
  return {ctx.now, views, cursor, unreadable}
end

lk.register('lk_dead_list', dead_list, {'no-writes'})
