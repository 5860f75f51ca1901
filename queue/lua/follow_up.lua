-- Jobs that the end of another one brings: follow-ups in a handler's answer, and `onDead`. They are stored by the same call
-- as that end, or not at all.

-- Most follow-up jobs of one answer, and most bytes that it may take to ask for them: what is more is refused for itself alone.
local FOLLOW_UPS, ASKED_BYTES = 100, 2 * lk.MAX_BYTES
-- Bytes of payloads that one call carries into the news of deaths, and of those that it reads for the keys of news.
local OBITUARY_BYTES, KEYS_BYTES = 524288, 8388608

-- Why a follow-up cannot be stored because its key has an owner and its type refuses such; nil where none is refused. `brought`:
-- ids and keys that earlier answers of the call take; those of this one come back as well. `freed`: the job whose key is free as
-- soon as these are stored, or false.
local function conflict_of(ctx, specs, brought, freed)
  local ids, keys, refused = {}, {}, {}
  for _, spec in ipairs(specs) do
    refused[#refused + 1] = spec.ty.on_conflict == 'Reject' and spec.key or nil
  end
  local owners = refused[1] and lk.owners_of(ctx, refused) or NONE
  for i, spec in ipairs(specs) do
    local id, key = spec.options.id, spec.key
    if key and not (id and (ids[id] or brought.ids[id] or call('HEXISTS', ctx.keys.jobs, id) == 1)) then
      local standing = owners[key] and owners[key].id ~= freed and owners[key]
      local owner = standing or keys[key] or brought.keys[key]
      if owner and spec.ty.on_conflict == 'Reject' then
        return fmt('number %d: rejected:key-conflict: job %s (%s) has the idempotency key', i, owner.id, owner.state)
      end
      keys[key] = {id = id or 'of the same answers', state = 'ready'}
    end
    if id then
      ids[id] = true
    end
  end
  return nil, ids, keys
end

-- Notes what the answer of a job takes that is stored.
function lk.note_brought(brought, specs, id, ty)
  for _, spec in ipairs(specs) do
    spec.tells_of, spec.tells_of_type = id, ty.name
    brought[#brought + 1] = spec
  end
  for id in pairs(specs.ids) do
    brought.ids[id] = true
  end
  for key, owner in pairs(specs.keys) do
    brought.keys[key] = owner
  end
end

-- The follow-ups of a success, msgpack {{options as JSON, payload}, ...}, as specs for lk.admit; or nil and why not. `brought`:
-- what earlier successes of the call bring. `freed`: the job that succeeds, where its key is free with that.
function lk.read_follow_ups(ctx, blob, brought, freed)
  if #blob > ASKED_BYTES then
    return nil, fmt('an answer may ask for jobs in %d bytes, this one takes %d', ASKED_BYTES, #blob)
  end
  local list = lk.decode(blob)
  if not list then
    return nil, 'they are not msgpack'
  end
  if #list == 0 and next(list) ~= nil then
    return nil, 'they are no list'
  end
  if #list > FOLLOW_UPS then
    return nil, fmt('an answer may enqueue %d jobs, this one has %d', FOLLOW_UPS, #list)
  end
  local specs = {}
  for i, pair in ipairs(list) do
    if type(pair) ~= 'table' or type(pair[1]) ~= 'string' or type(pair[2]) ~= 'string' then
      return nil, fmt('number %d is no pair of options and payload', i)
    end
    local spec, reply = lk.read_pair(ctx, pair[1], pair[2])
    if not spec then
      return nil, fmt('number %d: %s: %s', i, reply[2], reply[3])
    end
    specs[i] = spec
  end
  local why
  why, specs.ids, specs.keys = conflict_of(ctx, specs, brought, freed)
  if why then
    return nil, why
  end
  return specs
end

-- What one call may bring is what one enqueue may: an error reply where the settlements of a call ask for more.
function lk.too_many_follow_ups(list)
  local jobs, bytes = 0, 0
  for i = 1, #list do
    local blob = type(list[i]) == 'table' and list[i][7]
    if type(blob) == 'string' and blob ~= '' then
      local asked = #blob <= ASKED_BYTES and lk.decode(blob)
      if asked and #asked <= FOLLOW_UPS then
        jobs, bytes = jobs + #asked, bytes + #blob
      end
    end
  end
  if jobs > lk.MAX_PAIRS or bytes > ASKED_BYTES then
    return lk.error('LKLIMIT', fmt('the answers of one call may enqueue %d jobs, these ask for %d', lk.MAX_PAIRS, jobs))
  end
end

-- JSON text of a string that may have any bytes.
local function quoted(text)
  return sub(json.encode({lk.clean(text)}), 2, -2)
end

-- The payload where it can be read as a JSON object, or nil.
local function readable(payload)
  return find(payload, '^%s*{') and lk.from_json(payload) and payload or nil
end

-- A readable payload where it is a JSON object to everybody, or nil. cjson takes control characters in strings, which JSON does
-- not allow: those of its white space become spaces, which mean nothing outside of strings; with any other it is no JSON.
local function object_of(payload)
  if find(payload, '[%z\1-\8\11\12\14-\31]') or not lk.is_utf8(payload) then
    return nil
  end
  return (string.gsub(payload, '[\t\n\r]', ' '))
end

-- The payload of the job that tells of a death: {job, type, key, reason, attempts, error: {class, code, message}, payload}.
-- The dead job's payload is the `object`, or left out where that is nil.
local function obituary(id, job, object, ty, word)
  return concat({
    '{"job":', quoted(id), ',"type":', quoted(ty.name), ',"key":', job[KEY] ~= '' and quoted(job[KEY]) or 'null', ',"reason":',
    quoted(word.reason), ',"attempts":', lk.digits(job[ATTEMPTS]), ',"error":{"class":', quoted(word.class), ',"code":',
    quoted(word.code), ',"message":', quoted(lk.clip(word.message, MESSAGE_OLD)), '}', object and ',"payload":' or '',
    object or '', '}',
  })
end

-- The spec of the job that tells of a death: with the dead job's payload where it can be carried along, and with the keys that it
-- gives in any case.
local function news_of(ctx, options, payload, news, tell)
  -- Reading payloads takes time: a call that brings many deaths tells of the later ones without them.
  ctx.obituaries = (ctx.obituaries or 0) + #payload
  local carries = ctx.obituaries <= OBITUARY_BYTES
  local reads = carries or ((news.key or news.groups) and ctx.obituaries <= KEYS_BYTES)
  local object = reads and readable(payload)
  local carried = object and carries and object_of(object)
  local source = tell(carried or object or nil)
  return carried and lk.read_pair(ctx, options, source, source) or lk.read_pair(ctx, options, tell(nil), source)
end

-- The spec of the job that `onDead` of the type asks for; nil where that job cannot be stored.
function lk.on_dead(ctx, id, job, payload, ty, word)
  -- Its id keeps it to one per death: a job never ends twice under one token.
  local short = #id <= 100 and id or redis.sha1hex(id)
  local options = json.encode({type = ty.on_dead, id = fmt('%s.dead.%.0f', short, word.token)})
  local news = ctx.policy.types[ty.on_dead]
  local spec = news and news_of(ctx, options, payload, news, function(object)
    return obituary(id, job, object, ty, word)
  end)
  if not spec then
    lk.event(ctx, 'news-lost', id, ty.name, 'onDead: a job of type ' .. ty.on_dead .. ' cannot be made of it')
    return nil
  end
  if spec.unkeyed then
    lk.event(ctx, 'news-unkeyed', id, ty.name, lk.clip('onDead: ' .. spec.unkeyed, 1024))
  end
  spec.tells_of, spec.tells_of_type, spec.is_news = id, ty.name, true
  return spec
end

-- Says of the jobs that ends were to bring which did not come, because another one stands for them: once per answer. Refused, by a
-- key that has an owner, is only news here: follow-ups were before their success was taken.
function lk.tell_brought(ctx, replies)
  local doubled, order = {}, {}
  for i, spec in ipairs(ctx.brought) do
    local id, outcome, state = unpack_list(replies[i], 1, 3)
    local why = outcome == 'duplicate' and fmt('job %s (%s) stands for it', id, state) or (not id and state)
    if why and spec.is_news then
      lk.event(ctx, 'news-lost', spec.tells_of, spec.tells_of_type, 'onDead: ' .. why)
    elseif why and doubled[spec.tells_of] then
      doubled[spec.tells_of].more = doubled[spec.tells_of].more + 1
    elseif why then
      local first = {spec = spec, more = 0, why = fmt('the follow-up job of type %s is a duplicate: %s', spec.ty.name, why)}
      doubled[spec.tells_of], order[#order + 1] = first, first
    end
  end
  for _, first in ipairs(order) do
    local others = first.more > 0 and fmt(', likewise %d more', first.more) or ''
    lk.event(ctx, 'follow-up-duplicate', first.spec.tells_of, first.spec.tells_of_type, first.why .. others)
  end
end
