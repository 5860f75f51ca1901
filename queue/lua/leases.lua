-- lk_leases root boot cursor  ->  {next cursor ('0' at the end), id, token, since, id, token, since, ...}
--
-- The leases of one boot of a worker, a bounded step at a time: how a worker whose claim got no answer finds out what it
-- was given. An id may come twice, as SCAN goes.

local function leases(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  if #args ~= 2 or not find(args[2], '^%d+$') then
    return lk.error('LKARGS', 'lk_leases takes a boot and a cursor')
  end
  local step = call('HSCAN', ctx.keys.leases, args[2], 'COUNT', 500)
  local reply, found = {step[1]}, step[2]
  for i = 1, #found, 2 do
    local lease = lk.read_lease(found[i + 1])
    if lease and lease.who[1] == args[1] then
      local n = #reply
      reply[n + 1], reply[n + 2], reply[n + 3] = found[i], lease[L_TOKEN], lease[L_SINCE]
    end
  end
  return reply
end

lk.register('lk_leases', leases, {'no-writes'})
