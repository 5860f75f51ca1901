-- lk_version  ->  {number, fingerprint} of this library

local function version()
  return {LIBRARY_VERSION, LIBRARY_FINGERPRINT}
end

redis.register_function{function_name = 'lk_version', callback = version, flags = {'no-writes'}}
