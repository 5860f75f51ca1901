-- lk_events root after limit  ->  {id, kind, job or '', type or lane or '', detail, id, ...}, oldest first
--
-- What is worth a look of a person, as it happened: a stream of about the last EVENTS of a queue. Successes and retries are not
-- among them: every job's history has those, and a stream of them would cost as much as the jobs. after: the id of the last one
-- that was seen, or '' for the newest `limit`.

local EVENTS = 10000
-- Shortest time between two events that tell of a key at which calls fail, ms.
local FAILURES_APART = 60000

-- Notes an event. `name`: the job type or the lane it is about. News is never worth the call that brings it: where it cannot be
-- written (an older user's rights, a foreign key in its place) the call goes on.
function lk.event(ctx, kind, id, name, detail)
  redis.pcall('XADD', ctx.keys.events, 'MAXLEN', '~', EVENTS, '*', 'k', kind, 'j', lk.clean(id or ''), 'n', lk.clean(name or ''),
    'd', lk.clean(detail or ''))
end

-- Notes events that were staged: {kind, id, type, detail, ...}.
function lk.commit_events(ctx, events)
  for i = 1, #events, 4 do
    lk.event(ctx, unpack_list(events, i, i + 3))
  end
end

-- Stages the event of a job.
function lk.stage_event(stage, kind, id, ty, detail)
  lk.push2(stage.events, kind, id)
  lk.push2(stage.events, ty.name, detail)
end

-- Says of which job nothing can be read, and what of it: nobody would find it by a counter of damage.
function lk.tell_damaged(ctx, id, ty, raw, past)
  local why
  if not lk.is_id(id) then
    why = 'its id holds bytes that no client can be told'
  elseif not raw then
    why = 'it has no record'
  elseif not lk.read_job(raw, false) then
    why = fmt('its record (%s) cannot be read, of %d bytes', ctx.keys.jobs, #raw)
  elseif not lk.read_job(raw, past) then
    why = fmt('its past (%s) cannot be read, of %d bytes', ctx.keys.pasts, #past)
  end
  if why then
    lk.event(ctx, 'damaged', id, ty.name, why)
  end
end

-- Says at which key a part of a call fails that is left out; not with each call that meets it.
function lk.tell_failure(ctx, failure)
  local last = tonumber(call('HGET', ctx.keys.meta, 'xt'))
  if not last or ctx.now < last or ctx.now - last >= FAILURES_APART then
    call('HSET', ctx.keys.meta, 'xt', ctx.now)
    lk.event(ctx, 'damaged', '', '', lk.clip(lk.clean(lk.failure_words(ctx.keys.root, failure)), 1024))
  end
end

local function fields_of(entry)
  local fields = {}
  for i = 1, #entry[2], 2 do
    fields[entry[2][i]] = entry[2][i + 1]
  end
  return fields
end

local function events(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  local after, limit = args[1] or '', tonumber(args[2])
  if #args ~= 2 or not limit or not (limit >= 1) or not (after == '' or find(after, '^%d+%-%d+$')) then
    return lk.error('LKARGS', 'lk_events takes the id of an event or nothing, and a limit of 1 to 1000')
  end
  limit = floor(min(limit, 1000))
  local found
  if after == '' then
    found = call('XREVRANGE', ctx.keys.events, '+', '-', 'COUNT', limit)
  else
    found = call('XRANGE', ctx.keys.events, '(' .. after, '+', 'COUNT', limit)
  end
  local reply = {}
  for i = 1, #found do
    local entry = found[after == '' and #found + 1 - i or i]
    local fields, n = fields_of(entry), #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = entry[1], fields.k or '', fields.j or ''
    reply[n + 4], reply[n + 5] = fields.n or '', fields.d or ''
  end
  return reply
end

lk.register('lk_events', events, {'no-writes'})
