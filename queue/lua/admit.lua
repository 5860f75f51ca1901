-- Taking jobs in: what enqueues and follow-up jobs have in common.

local function rejected(reason, sentence)
  return {false, 'rejected:' .. reason, sentence}
end

-- Bytes of the class of a rate.
local CLASS_MOST = 512

-- The job's group and the class of its rate, by its type's concurrency key; or nil, nil and why not.
function lk.read_group(ty, payload)
  local group, why = lk.render_key(ty.groups.key, payload)
  if not group or group == '' or #group > 512 then
    return nil, nil, why or 'the concurrency key made from the payload is empty or longer than 512 bytes'
  end
  local rate = ty.groups.rate
  local class = rate and rate.by and lk.render_key({{path = rate.by.path}}, payload, true) or nil
  -- One that is longer than what a policy may name is none.
  return group, class and #class <= CLASS_MOST and class or nil
end

-- The group that the record of a job gives, whose payload begins at `at`: by the payload that it was enqueued with. '' where that gives
-- none.
function lk.group_in(ty, raw, at)
  local _, rec = unpack_one(raw)
  return lk.read_group(ty, type(rec[8]) == 'table' and rec[8][1] or sub(raw, at)) or ''
end

-- The idempotency key that the type makes from the payload; or nil and why not.
local function read_key(ty, payload)
  local key, why = lk.render_key(ty.key, payload)
  if key == '' then
    return nil, 'the idempotency key made from the payload is empty'
  end
  -- As long as a caller's own key may be: handlers get it as a header, and receivers bound those.
  if key and #key > 512 then
    return nil, 'the idempotency key made from the payload is longer than 512 bytes'
  end
  return key, why
end

-- What the pair asks for, as far as it can be told without reading: a spec, or nil and the reply. `source`: what the keys are
-- made from where the job comes whatever becomes of them: those that cannot be made are none, and the spec says why (`unkeyed`).
function lk.read_pair(ctx, text, payload, source)
  local options, why = lk.parse_options(text)
  if not options then
    return nil, rejected('invalid-options', why)
  end
  local ty = ctx.policy.types[options.type]
  if not ty then
    return nil, rejected('unknown-type', 'the queue has no job type ' .. lk.clip(lk.clean(options.type), 100))
  end
  if #payload > ctx.policy.max_payload then
    return nil, rejected('payload-too-large', fmt('the payload has %d bytes, the queue takes at most %d', #payload,
      ctx.policy.max_payload))
  end
  local debounced = ty.debounce and not options.delay and not options.run_at
  local delay = debounced and ty.debounce.wait or options.delay or 0
  local due = options.run_at and max(options.run_at, ctx.now) or ctx.now + delay
  if due - ctx.now > lk.MAX_DELAY then
    return nil, rejected('invalid-options', 'option runAt is more than ten years away')
  end
  local key, group, class, unkeyed = options.key, nil, nil, nil
  if not key and ty.key then
    key, unkeyed = read_key(ty, source or payload)
  end
  if ty.groups then
    group, class, why = lk.read_group(ty, source or payload)
    -- The nameless group knows no bounds.
    group, unkeyed = group or '', unkeyed or why
  end
  if unkeyed and not source then
    return nil, rejected('key-field', unkeyed)
  end
  return {
    ty = ty, options = options, payload = payload, due = due, key = key, group = group, class = class, debounced = debounced,
    unkeyed = unkeyed,
  }
end

-- The values of `fields` of a hash, by field.
local function lookup(key, fields)
  local found = {}
  if fields[1] then
    local values = call('HMGET', key, unpack_list(fields))
    for i, field in ipairs(fields) do
      found[field] = values[i]
    end
  end
  return found
end

-- Who owns which key: {id, state, job, bytes of its payload} by key, reading entries and the records of owners that have not succeeded.
function lk.owners_of(ctx, keys)
  local entries = lookup(ctx.keys.keys, keys)
  local ids, waiting, owners = {}, {}, {}
  for key, entry in pairs(entries) do
    if entry then
      local space = find(entry, ' ', 1, true)
      if not space then
        ids[#ids + 1] = entry
        waiting[key] = entry
      elseif (tonumber(sub(entry, space + 1)) or 0) > ctx.now then
        owners[key] = {id = sub(entry, 1, space - 1), state = 'succeeded'}
      end
    end
  end
  local records, pasts = lookup(ctx.keys.jobs, ids), lookup(ctx.keys.pasts, ids)
  for key, id in pairs(waiting) do
    local job, payload = lk.read_job(records[id], pasts[id])
    -- An entry whose record is gone, called off or discarded keeps nobody out.
    if job and job[STATE] ~= CANCELLED and job[STATE] ~= DISCARDED then
      owners[key] = {id = id, state = lk.state_of(ctx, id, job), job = job, payload = #records[id] - payload + 1}
    end
  end
  return owners
end

-- Ids that no record has, for the specs that brought none.
local function give_ids(ctx, specs)
  local fresh, ids = {}, {}
  for _, spec in ipairs(specs) do
    if not spec.id then
      spec.id = lk.new_id(ctx)
      fresh[#fresh + 1] = spec
      ids[#ids + 1] = spec.id
    end
  end
  if not ids[1] then
    return
  end
  local taken = call('HMGET', ctx.keys.jobs, unpack_list(ids))
  for i, spec in ipairs(fresh) do
    while taken[i] do
      spec.id = lk.new_id(ctx)
      taken[i] = call('HEXISTS', ctx.keys.jobs, spec.id) == 1
    end
  end
end

-- What stands before the payload of a job that has nothing of its own: many of a call share it.
local function plain_head(ctx, ty, priority)
  if ctx.head_of ~= ty or ctx.head_priority ~= priority then
    ctx.head_of, ctx.head_priority = ty, priority
    ctx.head = lk.write_record({1, ty.name, ctx.now, priority}, '')
  end
  return ctx.head
end

local function store(ctx, stage, spec)
  local ty, options, now = spec.ty, spec.options, ctx.now
  local priority = options.priority or ty.priority
  lk.stage_waiting(ctx, stage, ty, spec.id, priority, spec.due)
  local record
  if spec.due == now and not (spec.first or spec.key or options.meta) then
    record = plain_head(ctx, ty, priority) .. spec.payload
  else
    local enqueued = spec.first or now
    record = lk.write_record({1, ty.name, enqueued, priority, spec.due - enqueued, spec.key or '', options.meta or NONE}, spec.payload)
  end
  lk.push2(stage.record_set, spec.id, record)
  if spec.named then
    -- What a damaged job left behind under this id would speak of another one now.
    stage.past_del[#stage.past_del + 1] = spec.id
    if ctx.notes then
      lk.stage_forget_notes(stage, spec.id)
    end
  end
  if spec.key then
    lk.push2(stage.key_set, spec.key, spec.id)
  end
  if spec.group then
    lk.push2(stage.group_set, spec.id, spec.group)
    local rate = ty.groups.rate
    if rate and rate.by then
      for _, word in ipairs(spec.earlier or NONE) do
        lk.push2(stage.class_set, ty, word)
      end
      lk.push2(stage.class_set, ty, {spec.group, spec.class})
    end
  elseif spec.first then
    -- The payload that it speaks of is gone.
    stage.group_del[#stage.group_del + 1] = spec.id
  end
  if not spec.first then
    lk.count(stage, 'e', ty, 1)
  end
end

-- The reply where the key has another owner.
local function conflict(spec, owner)
  if spec.ty.on_conflict == 'Reject' then
    return rejected('key-conflict', fmt('job %s (%s) has the idempotency key', owner.id, owner.state))
  end
  return {owner.id, 'duplicate', owner.state}
end

-- When a job is due that takes the place of one which came at `first` and was due at `due`. It goes on standing where that stood,
-- or one that is replaced often would never start, unless it asks for a time of its own. Debounced ones are put off again with
-- each that comes, but not beyond `most` after the first.
local function keep_time(spec, first, due)
  if spec.debounced then
    spec.due = min(spec.due, first + spec.ty.debounce.most)
  elseif not (spec.options.delay or spec.options.run_at) then
    spec.due = min(spec.due, due)
  end
end

-- Whether the spec takes the place, and the id, of the key's owner: one of its type that has not been started.
local function replaces(ctx, spec, owner)
  local ty, job = spec.ty, owner.job
  if ty.on_conflict ~= 'Replace' or not job or job[TYPE] ~= ty.name or job[ATTEMPTS] > 0 or job[COUNTS_FROM] > 0
    or (owner.state ~= 'ready' and owner.state ~= 'scheduled') then
    return false
  end
  -- Not after now, where the clock went back: a job cannot be due before it was enqueued.
  spec.first, spec.frees = min(job[ENQUEUED], ctx.now), owner.payload
  keep_time(spec, spec.first, lk.due_of(job))
  return true
end

-- What a pair means whose id or key an earlier one of the call has taken: the same as if it had come in the next call.
local function follow(ctx, spec, twin, same_id)
  local ty = spec.ty
  spec.twin, spec.says = twin, 'duplicate'
  if not same_id and ty.on_conflict == 'Reject' then
    spec.says = 'rejected'
  elseif not same_id and ty.on_conflict == 'Replace' and ty == twin.ty then
    spec.says = 'replaced'
    keep_time(spec, twin.first or ctx.now, twin.due)
    -- What it said of the class of its key stays said.
    twin.earlier = twin.earlier or {}
    twin.earlier[#twin.earlier + 1] = {twin.group, twin.class}
    twin.payload, twin.options, twin.due, twin.group, twin.class = spec.payload, spec.options, spec.due, spec.group, spec.class
  end
  spec.later = twin.due > ctx.now
end

local function reply_of(spec)
  return {
    spec.id, spec.first and 'replaced' or (spec.later and 'scheduled' or 'queued'), spec.later and 'scheduled' or 'ready',
  }
end

local function reply_of_twin(spec, first)
  local state = spec.later and 'scheduled' or 'ready'
  -- What has no room has none twice.
  return not first[1] and first
    or spec.says == 'rejected' and conflict(spec, {id = first[1], state = state})
    or {first[1], spec.says, state}
end

-- Takes the job that is replaced out of its line.
local function make_way(ctx, spec)
  local ty, id = spec.ty, spec.id
  if call('ZREM', ty.ready, id) == 1 and ty.groups then
    lk.line_down(ctx, ty, {id})
  end
  if call('ZREM', ty.scheduled, id) == 1 then
    lk.refresh_next(ctx, ty)
  end
end

-- Sorts the specs into new ones and duplicates, earlier pairs of the call included.
local function find_duplicates(ctx, specs, replies)
  local ids, keys = {}, {}
  for _, spec in ipairs(specs) do
    ids[#ids + 1] = spec.options.id
    keys[#keys + 1] = spec.key
  end
  if not ids[1] and not keys[1] then
    for _, spec in ipairs(specs) do
      spec.later = spec.due > ctx.now
    end
    return specs
  end
  local records, pasts = lookup(ctx.keys.jobs, ids), lookup(ctx.keys.pasts, ids)
  local owners = lk.owners_of(ctx, keys)
  local accepted, by_id, by_key, replaced = {}, {}, {}, {}
  for _, spec in ipairs(specs) do
    local id, key = spec.options.id, spec.key
    local same_id = id and by_id[id]
    -- A damaged record stands for no job: the new one takes its place.
    local job = id and not same_id and lk.read_job(records[id], pasts[id])
    local twin = same_id or (not job and key and by_key[key])
    if twin then
      follow(ctx, spec, twin, same_id)
    elseif job then
      replies[spec.at] = {id, 'duplicate', lk.state_of(ctx, id, job)}
    elseif key and owners[key] and not replaces(ctx, spec, owners[key]) then
      replies[spec.at] = conflict(spec, owners[key])
    else
      spec.id, spec.named, spec.later = spec.first and owners[key].id or id, id, spec.due > ctx.now
      replaced[#replaced + 1] = spec.first and spec.ty
      accepted[#accepted + 1] = spec
      if spec.id then by_id[spec.id] = spec end
      if key then by_key[key] = spec end
    end
  end
  lk.require_places(ctx, replaced)
  return accepted
end

-- Stages the jobs of the specs, each with its place in the reply (`at`), and puts their outcomes into `replies`. `bounded`: what
-- the queue has no room for is refused.
function lk.admit(ctx, stage, specs, replies, bounded)
  local accepted = find_duplicates(ctx, specs, replies)
  if bounded then
    accepted = lk.fitting(ctx, accepted, replies)
  end
  give_ids(ctx, accepted)
  for _, spec in ipairs(accepted) do
    if spec.first then
      make_way(ctx, spec)
    end
    store(ctx, stage, spec)
    replies[spec.at] = reply_of(spec)
  end
  for _, spec in ipairs(specs) do
    if spec.twin then
      replies[spec.at] = reply_of_twin(spec, replies[spec.twin.at])
    end
  end
end
