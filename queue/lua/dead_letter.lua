-- Dead letters beside their records: what one died of in short (its fingerprint), and the card that lists filter by.
--
-- A card is msgpack {1, type, fingerprint, 'o' open | 'a' acknowledged | 'd' discarded, key}.
-- All of it follows from the job's record and past, which may be large; so lists and counts go through cards, and a card
-- that is lost or damaged costs a look at the job until a sweep has made it anew.

-- Bytes of a message that are looked at, and of what is left of it that counts.
local READ, COUNTS = 1024, 256
local X4 = '[0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f]'
local UUID = X4 .. X4 .. '%-' .. X4 .. '%-' .. X4 .. '%-' .. X4 .. '%-' .. X4 .. X4 .. X4
-- Bytes of records that one call looks at for want of cards, about.
local BARE_BYTES = 1048576

-- Letters without digits tell errors apart. A long word with digits is an id or a hash; a short one is a name with a number, unless
-- it is a duration, which may have other units each time.
local function mask_word(word)
  if not find(word, '[0-9]') then
    return word
  end
  local long = #word >= 8 or string.gsub(word, '[0-9]+m?[dhms]', '') == ''
  return long and '#' or (string.gsub(word, '[0-9]+', '#'))
end

-- A message without what differs from job to job. In this order: quoted parts become `*`; UUIDs, words of 8 or more
-- characters with a digit, durations (1m30s, 250ms) and all other runs of digits become `#`, and `#`s with nothing but punctuation
-- between them one; white space becomes one blank.
function lk.normalized(message)
  local gsub = string.gsub
  local text = ' ' .. lk.clip(message, READ)
  text = gsub(text, '"[^"]*"', '*')
  text = gsub(text, '`[^`]*`', '*')
  -- Not behind a letter, where it is an apostrophe.
  text = gsub(text, "([^0-9A-Za-z])'[^']*'", '%1*')
  text = gsub(text, UUID, '#')
  text = gsub(text, '[0-9A-Za-z_]+', mask_word)
  text = gsub(text, '#[#.,:/+%-]*#', '#')
  text = gsub(text, '[ \t\r\n\v\f]+', ' ')
  text = gsub(gsub(text, '^ ', ''), ' $', '')
  return sub(text, 1, COUNTS)
end

local function text_at(entry, at)
  return type(entry) == 'table' and type(entry[at]) == 'string' and entry[at] or ''
end

-- 12 hex digits of the SHA-1 of class, code and normalized message of the attempt that a job died of.
function lk.fingerprint(job)
  local history, death = job[HISTORY], nil
  for i = #history, 1, -1 do
    if text_at(history[i], 8) == 'dead' then
      death = history[i]
      break
    end
  end
  local said = {text_at(death, 9), text_at(death, 10), lk.normalized(text_at(death, 11))}
  return sub(redis.sha1hex(concat(said, '\n')), 1, 12)
end

function lk.is_acknowledged(job)
  return text_at(job[HISTORY][#job[HISTORY]], 8) == 'acknowledge'
end

-- What people decided about a dead job, as its card says it.
function lk.review_of(job)
  return job[STATE] == DISCARDED and 'd' or (lk.is_acknowledged(job) and 'a') or 'o'
end

local function make_card(job)
  return {1, job[TYPE], lk.fingerprint(job), lk.review_of(job), job[KEY]}
end

local function read_card(raw)
  local card = raw and lk.decode(raw)
  if not card or card[1] ~= 1 then
    return nil
  end
  for i = 2, 5 do
    if type(card[i]) ~= 'string' then
      return nil
    end
  end
  return card
end

-- The fingerprint as it was when the job died.
function lk.fingerprint_of(ctx, id, job)
  local card = read_card(call('HGET', ctx.keys.cards, id))
  return card and card[3] or lk.fingerprint(job)
end

-- A function that gives the cards of some ids, one after the other: nil where there is no
-- such job; false where too many jobs without cards were looked at already.
function lk.cards_of(ctx, ids)
  local raws, budget = ids[1] and call('HMGET', ctx.keys.cards, unpack_list(ids)) or {}, BARE_BYTES
  return function(i)
    local id, card = ids[i], read_card(raws[i])
    if card then
      return card
    end
    if budget <= 0 then
      return false
    end
    local raw, past = call('HGET', ctx.keys.jobs, id), call('HGET', ctx.keys.pasts, id)
    budget = budget - 1024 - #(raw or '') - #(past or '')
    local job = lk.read_job(raw, past)
    if not job or (job[STATE] ~= DEAD and job[STATE] ~= DISCARDED) then
      return nil
    end
    return make_card(job)
  end
end

-- Stages. Nothing of them exists in a call that touches no dead letter.

local function letters_of(stage)
  local letters = stage.has.letters
  if not letters then
    letters = {cards = {}, gone = {}, discarded = {}, restored = {}}
    stage.has.letters = letters
  end
  return letters
end

function lk.stage_card(stage, id, job)
  lk.push2(letters_of(stage).cards, id, pack(make_card(job)))
end

-- The letter leaves the index where it stands, by what the job's state still says.
function lk.stage_undead(ctx, stage, id, job)
  local ty = lk.type_of(ctx.policy, job[TYPE])
  if job[STATE] == DISCARDED then
    lk.push2(letters_of(stage).restored, ty, id)
  else
    stage.dead_del[#stage.dead_del + 1] = id
    local own = lk.of_type(stage, ty)
    own.dead_del[#own.dead_del + 1] = id
  end
end

function lk.stage_no_card(stage, id)
  local gone = letters_of(stage).gone
  gone[#gone + 1] = id
end

function lk.stage_discarded(ctx, stage, id, job)
  lk.push2(letters_of(stage).discarded, lk.type_of(ctx.policy, job[TYPE]), id)
  lk.stage_card(stage, id, job)
end

function lk.commit_letters(ctx, letters)
  local keys = ctx.keys
  if letters.cards[1] then
    call('HSET', keys.cards, unpack_list(letters.cards))
  end
  if letters.gone[1] then
    call('HDEL', keys.cards, unpack_list(letters.gone))
  end
  for i = 1, #letters.discarded, 2 do
    local ty, id = letters.discarded[i], letters.discarded[i + 1]
    call('ZADD', keys.discarded, ctx.now, id)
    call('ZADD', ty.discarded, ctx.now, id)
  end
  for i = 1, #letters.restored, 2 do
    call('ZREM', keys.discarded, letters.restored[i + 1])
    call('ZREM', letters.restored[i].discarded, letters.restored[i + 1])
  end
end

-- Letters whose jobs are gone or cannot be read leave every index.
function lk.forget_letters(ctx, ids)
  call('ZREM', ctx.keys.dead, unpack_list(ids))
  call('ZREM', ctx.keys.discarded, unpack_list(ids))
  call('HDEL', ctx.keys.cards, unpack_list(ids))
  for _, name in ipairs(call('SMEMBERS', ctx.keys.types)) do
    local ty = lk.type_of(ctx.policy, name)
    call('ZREM', ty.dead, unpack_list(ids))
    call('ZREM', ty.discarded, unpack_list(ids))
  end
end

-- Removes discarded letters beyond their age, where the policy gives them one; how many left their index. Nothing else
-- ever removes a letter that was not asked to.
function lk.trim_discarded(ctx, ty, most)
  if not ty.keep_reviewed or most <= 0 then
    return 0
  end
  local keys = ctx.keys
  local old = call('ZRANGEBYSCORE', ty.discarded, '-inf', lk.digits(ctx.now - ty.keep_reviewed), 'LIMIT', 0, most)
  if not old[1] then
    return 0
  end
  local pasts, gone = call('HMGET', keys.pasts, unpack_list(old)), {}
  for i, id in ipairs(old) do
    -- An entry may be left over from a lost record whose id was taken again.
    if lk.state_in(pasts[i]) == DISCARDED then
      gone[#gone + 1] = id
    end
  end
  call('ZREM', ty.discarded, unpack_list(old))
  call('ZREM', keys.discarded, unpack_list(old))
  lk.forget_jobs(ctx, gone)
  if gone[1] then
    call('HDEL', keys.cards, unpack_list(gone))
  end
  return #old
end

-- Repair: see repair.lua.

-- Puts a letter back where it is missing; whether it was. A lost card is made anew without counting as damage: letters from
-- before there were cards have none.
function lk.mend_letter(ctx, ty, id, job)
  local keys, at = ctx.keys, lk.digits(job[FINISHED])
  local all, own = keys.dead, ty.dead
  if job[STATE] == DISCARDED then
    all, own = keys.discarded, ty.discarded
  end
  local mended = call('ZADD', all, 'NX', at, id) == 1
  mended = call('ZADD', own, 'NX', at, id) == 1 or mended
  if not read_card(call('HGET', keys.cards, id)) then
    call('HSET', keys.cards, id, pack(make_card(job)))
  end
  return mended
end

-- How many letters have no card.
function lk.cards_missing(ctx)
  local keys = ctx.keys
  return max(0, call('ZCARD', keys.dead) + call('ZCARD', keys.discarded) - call('HLEN', keys.cards))
end

-- Whether an index over all types lacks letters that those of the types have (so many `dead` and `discarded`), or more cards are
-- missing than after the last look at all jobs.
function lk.letters_missing(ctx, dead, discarded)
  return call('ZCARD', ctx.keys.dead) < dead or call('ZCARD', ctx.keys.discarded) < discarded
    or lk.cards_missing(ctx) > (tonumber(call('HGET', ctx.keys.meta, 'rd')) or 0)
end
