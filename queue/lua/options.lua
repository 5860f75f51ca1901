-- Options of lk_enqueue: JSON in, checked fields out.

local OPTION_NAMES = {type = true, id = true, key = true, priority = true, delay = true, runAt = true, meta = true}
local MAX_META_ENTRIES, MAX_META_BYTES, MAX_KEY, MAX_ID, MAX_OPTIONS = 32, 4096, 512, 128, 16384

-- Programs send the same few options again and again: those without anything of the single job are kept decoded.
local parsed, parsed_count = {}, 0

local function whole(value, low, high)
  return type(value) == 'number' and value == floor(value) and value >= low and value <= high
end

local function check_meta(meta, text)
  -- An empty array decodes like an empty object.
  if type(meta) ~= 'table' or (next(meta) == nil and byte(lk.source_of(text, {'meta'})) ~= 123) then
    return nil, 'meta must be an object of strings'
  end
  local flat, bytes = {}, 0
  for name, value in pairs(meta) do
    if type(name) ~= 'string' or type(value) ~= 'string' then
      return nil, 'meta must be an object of strings'
    end
    if not lk.is_utf8(name) or not lk.is_utf8(value) then
      return nil, 'meta must be valid UTF-8'
    end
    lk.push2(flat, name, value)
    bytes = bytes + #name + #value
  end
  if #flat > 2 * MAX_META_ENTRIES or bytes > MAX_META_BYTES then
    return nil, 'meta holds at most 32 strings and 4096 bytes in all'
  end
  return flat
end

local function check_names(doc)
  for name in pairs(doc) do
    if not OPTION_NAMES[name] then
      return 'unknown option ' .. lk.clip(lk.clean(tostring(name)), 64)
        .. '; there are type, id, key, priority, delay, runAt and meta'
    end
  end
end

local function check_strings(doc)
  if type(doc.type) ~= 'string' then
    return doc.type == nil and 'option type is missing' or 'option type must be a string'
  end
  if doc.id ~= nil and not (type(doc.id) == 'string' and #doc.id <= MAX_ID and find(doc.id, '^[\33-\126]+$')) then
    return 'option id must be 1 to 128 printable ASCII characters without spaces'
  end
  if doc.key ~= nil and not (type(doc.key) == 'string' and #doc.key >= 1 and #doc.key <= MAX_KEY
    and lk.is_utf8(doc.key) and not find(doc.key, '%z')) then
    return 'option key must be a string of 1 to 512 bytes in UTF-8 without NUL'
  end
end

local function check_numbers(doc)
  if doc.priority ~= nil and not whole(doc.priority, 0, 9) then
    return 'option priority must be an integer from 0 to 9'
  end
  if doc.delay ~= nil and not whole(doc.delay, 0, lk.MAX_DELAY) then
    return 'option delay must be whole milliseconds, at most ten years'
  end
  if doc.runAt ~= nil and not whole(doc.runAt, 0, lk.PRIORITY_STEP / 2) then
    return 'option runAt must be whole milliseconds since the epoch'
  end
  if doc.delay ~= nil and doc.runAt ~= nil then
    return 'options delay and runAt exclude each other'
  end
end

local function parse(text)
  if #text > MAX_OPTIONS then
    return nil, 'the options are longer than 16 KiB'
  end
  if not find(text, '^%s*{') then
    return nil, 'the options are not a JSON object'
  end
  local _, doc = lk.from_json(text)
  if type(doc) ~= 'table' then
    return nil, 'the options are not valid JSON: ' .. lk.clip(lk.clean(tostring(doc)), 200)
  end
  local why = check_names(doc) or check_strings(doc) or check_numbers(doc)
  if why then
    return nil, why
  end
  local meta
  if doc.meta ~= nil then
    meta, why = check_meta(doc.meta, text)
    if not meta then
      return nil, why
    end
  end
  return {
    type = doc.type, id = doc.id, key = doc.key, priority = doc.priority, delay = doc.delay, run_at = doc.runAt,
    meta = meta,
  }
end

-- The checked options, never to be changed by callers; or nil and a sentence.
function lk.parse_options(text)
  local known = parsed[text]
  if known then
    return known
  end
  local options, why = parse(text)
  if options and #text <= 128 and not (options.id or options.key or options.run_at or options.meta) then
    if parsed_count >= 64 then
      parsed, parsed_count = {}, 0
    end
    parsed[text] = options
    parsed_count = parsed_count + 1
  end
  return options, why
end
