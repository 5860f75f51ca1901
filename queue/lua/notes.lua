-- Notes: what a handler tells of its job while that runs. Its progress is for people, its checkpoint for the next attempt.
--
-- They stand in a hash of their own, so that jobs without any pay nothing: `p<id>` holds {told at, done, total (0: not known),
-- unit, message}, `c<id>` {left at} followed by the checkpoint's bytes. They outlive retries, releases, crashes and replays and go
-- with the job's end. A lease says whether its job has notes; of waiting jobs it is looked up, by claims only once the queue has
-- had notes at all (`n` in meta) and only for jobs that were tried before.

local CHECKPOINT_MOST, UNIT_MOST, SAID_MOST = 16384, 32, 512

-- Notes are for leases: `value` when it is one that Lua holds exactly, else 0.
local function whole(value)
  return type(value) == 'number' and value == value and max(0, min(floor(value), 2 ^ 53)) or 0
end

local function words(value, most)
  return lk.clip(lk.clean(type(value) == 'string' and value or ''), most)
end

-- What is staged of notes: by field the bytes to write, or false for none. Of two words on one field the later counts.
local function staged(stage)
  local notes = stage.has.notes
  if not notes then
    notes = {}
    stage.has.notes = notes
  end
  return notes
end

-- Stages what a note of a job says: msgpack {progress, checkpoint}, where progress is {} or {done, total, unit, message} and
-- checkpoint {} (as it was) or {bytes}, empty bytes taking it away. What is no note says nothing. Returns whether it said anything.
function lk.stage_note(ctx, stage, id, note)
  if type(note) ~= 'table' then
    return false
  end
  local told, left, said = note[1], type(note[2]) == 'table' and note[2][1], false
  if type(told) == 'table' and told[1] then
    local progress = {ctx.now, whole(told[1]), whole(told[2]), words(told[3], UNIT_MOST), words(told[4], SAID_MOST)}
    staged(stage)['p' .. id] = pack(progress)
    said = true
  end
  if left == '' then
    staged(stage)['c' .. id] = false
  elseif type(left) == 'string' and #left <= CHECKPOINT_MOST then
    staged(stage)['c' .. id] = pack({ctx.now}) .. left
    said = true
  end
  return said
end

-- The job has ended, or is gone: so are its notes.
function lk.stage_forget_notes(stage, id)
  local notes = staged(stage)
  notes['p' .. id], notes['c' .. id] = false, false
end

-- Forgets the notes of jobs whose records go.
function lk.forget_notes_of(ctx, ids)
  local gone = {}
  for _, id in ipairs(ids) do
    lk.push2(gone, 'p' .. id, 'c' .. id)
  end
  call('HDEL', ctx.keys.notes, unpack_list(gone))
end

-- Writes what is staged of notes.
function lk.commit_notes(ctx, notes)
  local set, del = {}, {}
  for field, bytes in pairs(notes) do
    if bytes then
      lk.push2(set, field, bytes)
    else
      del[#del + 1] = field
    end
  end
  if set[1] then
    call('HSET', ctx.keys.meta, 'n', 1)
    ctx.notes = true
    call('HSET', ctx.keys.notes, unpack_list(set))
  end
  if del[1] then
    call('HDEL', ctx.keys.notes, unpack_list(del))
  end
end

-- The stored notes of jobs, as {progress or false, checkpoint or false, progress, ...}; nil where the queue never had any.
function lk.read_notes(ctx, ids)
  if not ctx.notes or not ids[1] then
    return nil
  end
  local fields = {}
  for _, id in ipairs(ids) do
    lk.push2(fields, 'p' .. id, 'c' .. id)
  end
  return call('HMGET', ctx.keys.notes, unpack_list(fields))
end

-- Which of the jobs that a claim looks at have notes: {checkpoint's bytes or ''} by id; nil when none has. Only those that have a
-- past can have any.
function lk.notes_of_tried(ctx, ids, pasts)
  local tried, found = {}, nil
  for i = 1, #ids do
    if pasts[i] then
      tried[#tried + 1] = ids[i]
    end
  end
  local notes = lk.read_notes(ctx, tried) or NONE
  for i, id in ipairs(tried) do
    local told, left = notes[2 * i - 1], notes[2 * i]
    if told or left then
      found = found or {}
      local _, bytes = lk.read_checkpoint(left)
      found[id] = bytes or ''
    end
  end
  return found
end

-- When a stored checkpoint was left, and its bytes; nil when the bytes are none.
function lk.read_checkpoint(raw)
  local ok, at, head = pcall(unpack_one, raw)
  if not ok or at == -1 or type(head) ~= 'table' or type(head[1]) ~= 'number' then
    return nil
  end
  return head[1], sub(raw, at + 1)
end

-- What a view says of notes: progress as stored or '', when the checkpoint was left or -1, its size.
function lk.view_notes(told, left)
  local at, bytes = lk.read_checkpoint(left)
  return told or '', at or -1, bytes and #bytes or 0
end

-- Forgets notes of jobs that are gone, a few at random: only damage by hand leaves any.
function lk.forget_stray_notes(ctx)
  local gone = {}
  for _, field in ipairs(ctx.notes and call('HRANDFIELD', ctx.keys.notes, 8) or NONE) do
    if call('HEXISTS', ctx.keys.jobs, sub(field, 2)) == 0 then
      gone[#gone + 1] = field
    end
  end
  if gone[1] then
    call('HDEL', ctx.keys.notes, unpack_list(gone))
  end
end
