-- Idempotency keys from payloads. Nothing is rounded or guessed: a placeholder names a string or an integer below
-- 2^53 of a JSON object, or the job is refused with the path in the sentence.

local MAX_INTEGER = 9007199254740992

-- Position after the JSON string that starts at `at` (its opening quote). The text is known to be valid JSON.
local function after_string(text, at)
  local i = at + 1
  while true do
    i = find(text, '["\\]', i)
    if byte(text, i) == 34 then
      return i + 1
    end
    i = i + 2
  end
end

-- Position after the JSON value that starts at `at`.
local function after_value(text, at)
  local first = byte(text, at)
  if first == 34 then
    return after_string(text, at)
  end
  if first ~= 123 and first ~= 91 then
    return find(text, '[%s,%]}]', at) or #text + 1
  end
  local depth, i = 1, at + 1
  while depth > 0 do
    i = find(text, '["%[%]{}]', i)
    local c = byte(text, i)
    if c == 34 then
      i = after_string(text, i)
    else
      depth = depth + ((c == 123 or c == 91) and 1 or -1)
      i = i + 1
    end
  end
  return i
end

-- The source text of the member at `path` of valid JSON, of its last occurrence as decoders take it.
local function source_of(text, path)
  local at = find(text, '%S')
  for _, name in ipairs(path) do
    local member
    local i = find(text, '%S', at + 1)
    while byte(text, i) ~= 125 do
      local stop = after_string(text, i)
      local key = sub(text, i + 1, stop - 2)
      -- Decoding every name would cost more than everything else together.
      if find(key, '\\', 1, true) then
        key = json.decode('["' .. key .. '"]')[1]
      end
      local value = find(text, '%S', find(text, ':', stop, true) + 1)
      if key == name then
        member = value
      end
      i = find(text, '[,}]', after_value(text, value))
      if byte(text, i) == 44 then
        i = find(text, '%S', i + 1)
      end
    end
    at = member
  end
  return sub(text, at, after_value(text, at) - 1)
end
lk.source_of = source_of

local function escape(s)
  -- A NUL cannot stand where handlers are told of keys.
  return (string.gsub(s, '[%%:%z]', {['%'] = '%25', [':'] = '%3A', ['\0'] = '%00'}))
end

local function wrong(path, what)
  return nil, 'the payload field ' .. lk.clip(concat(path, '.'), 200) .. ' ' .. what
    .. '; a key takes strings and integers below 2^53'
end

local function render_path(payload, doc, path, booleans)
  local value = doc
  for _, name in ipairs(path) do
    if type(value) ~= 'table' then
      return wrong(path, 'is missing')
    end
    value = value[name]
  end
  if value == nil then
    return wrong(path, 'is missing')
  elseif value == cjson.null then
    return wrong(path, 'is null')
  elseif type(value) == 'boolean' then
    if booleans then
      return tostring(value)
    end
    return wrong(path, 'is a boolean')
  elseif type(value) == 'table' then
    return wrong(path, 'is an array or object')
  elseif type(value) == 'string' then
    if not lk.is_utf8(value) then
      return wrong(path, 'is not valid UTF-8')
    end
    return escape(value)
  end
  if value ~= floor(value) then
    return wrong(path, 'is a fraction')
  elseif value >= MAX_INTEGER or value <= -MAX_INTEGER then
    return wrong(path, 'is 2^53 or larger')
  end
  -- A double that looks whole may have been rounded to it: then only the digits in the text can tell.
  if find(payload, '%d[.eE]') and not find(source_of(payload, path), '^%-?%d+$') then
    return wrong(path, 'is a fraction or in exponent notation')
  end
  return value == 0 and '0' or lk.digits(value)
end

-- The key of a payload by a template's parts, or nil and a sentence. `booleans`: those count as words, for classes of rates; a key
-- of two values would be no key.
function lk.render_key(parts, payload, booleans)
  if not find(payload, '^%s*{') then
    return nil, 'the payload is not a JSON object, which a key of this job type is made from'
  end
  local ok, doc = lk.from_json(payload)
  if not ok then
    return nil, 'the payload is not valid JSON, which a key of this job type is made from: '
      .. lk.clip(tostring(doc), 200)
  end
  local out = {}
  for i, part in ipairs(parts) do
    if part.text then
      out[i] = part.text
    else
      local value, why = render_path(payload, doc, part.path, booleans)
      if not value then
        return nil, why
      end
      out[i] = value
    end
  end
  return concat(out)
end
