-- Registers functions so that a call which fails at a key of another type says which one that is.

local FIXED = {
  {'policy', 'string'}, {'meta', 'hash'}, {'jobs', 'hash'}, {'pasts', 'hash'}, {'leases', 'hash'}, {'running', 'zset'},
  {'next', 'zset'}, {'keys', 'hash'}, {'keys_by_expiry', 'zset'}, {'dead', 'zset'}, {'discarded', 'zset'}, {'cards', 'hash'},
  {'counters', 'hash'}, {'gates', 'hash'}, {'types', 'set'}, {'workers', 'hash'}, {'events', 'stream'}, {'notes', 'hash'},
  {'group_of', 'hash'},
}
local OF_TYPE = {
  {'ready_of', '', 'zset'}, {'scheduled_of', '', 'zset'}, {'finished_of', '', 'zset'}, {'dead_of', '', 'zset'},
  {'discarded_of', '', 'zset'}, {'groups', 't:', 'zset'}, {'groups', 'p:', 'zset'}, {'groups', 'r:', 'hash'},
  {'groups', 'a:', 'hash'}, {'groups', 'h:', 'hash'}, {'groups', 'c:', 'hash'},
}
local WORDS = {zset = 'sorted set'}

-- What stands at the key, where that is neither nothing nor of the type.
local function other(key, kind)
  local found = redis.pcall('TYPE', key)
  found = found and found.ok
  if found and found ~= 'none' and found ~= kind then
    return fmt(
      'WRONGTYPE %s holds a %s where the queue keeps a %s: something else wrote there. Rename that key; what can be found '
        .. 'again from the jobs themselves is, by the next sweeps', key, WORDS[found] or found, WORDS[kind] or kind
    )
  end
end

-- Among the lines of groups of a type, as far as a call may look.
local function other_line(keys, name)
  for _, index in ipairs({'t:', 'p:'}) do
    for _, group in ipairs(call('ZRANGE', keys.groups .. index .. name, 0, 199)) do
      local words = other(keys.groups .. ':' .. name .. ':' .. group, 'zset')
      if words then
        return words
      end
    end
  end
end

local function find_other(root)
  local keys = lk.keys_of(root)
  for _, key in ipairs(FIXED) do
    local words = other(keys[key[1]], key[2])
    if words then
      return words
    end
  end
  for _, name in ipairs(call('SMEMBERS', keys.types)) do
    for _, key in ipairs(OF_TYPE) do
      local words = other(keys[key[1]] .. key[2] .. name, key[3])
      if words then
        return words
      end
    end
    local words = other_line(keys, name)
    if words then
      return words
    end
  end
end

-- What a command failed with, in words that name the key where that is found.
function lk.failure_words(root, failure)
  -- Redis' own `pcall` returns the text of an error.
  local text = tostring(failure)
  if sub(text, 1, 10) == 'WRONGTYPE ' then
    local ok, words = pcall(find_other, root)
    return ok and words or text
  end
  return text
end

-- The error reply for what a command failed with; nil where that was no command.
local function reply_for(root, failure)
  local text = lk.failure_words(root, failure)
  return find(text, '^%u+ ') and redis.error_reply(text) or nil
end

function lk.register(name, work, flags)
  local function callback(keys, args)
    local ok, reply = pcall(work, keys, args)
    if ok then
      return reply
    end
    return reply_for(keys[1], reply) or error(reply, 0)
  end
  redis.register_function{function_name = name, callback = callback, flags = flags}
end
