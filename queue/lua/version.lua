-- lk_version  ->  {number, fingerprint} of this library

local function version()
  return {LIBRARY_VERSION, LIBRARY_FINGERPRINT}
end

lk.register('lk_version', version, {'no-writes'})
