-- lk_destroy root  ->  number of job records that were there
--
-- Deletes everything the queue has. Its keys are few and UNLINK frees their contents in the background, so one call is
-- bounded by the number of types and lanes, not of jobs.

local function destroy(keys)
  if not lk.booted then
    lk.boot()
  end
  local root, wrong = keys[1], lk.wrong_root(keys)
  if wrong then
    return wrong
  end
  local own = lk.keys_of(root)
  local jobs = call('HLEN', own.jobs)
  local text = call('GET', own.policy)
  local ok, policy = pcall(lk.compile, root, 0, text or '')
  for _, lane in ipairs(ok and policy.lanes or {}) do
    call('UNLINK', lane.wake)
  end
  for _, name in ipairs(call('SMEMBERS', own.types)) do
    local ty = ok and policy.types[name]
    if ty and ty.groups then
      lk.forget_all_groups(ty)
    end
    call('UNLINK', own.ready_of .. name, own.scheduled_of .. name, own.finished_of .. name, own.dead_of .. name,
      own.discarded_of .. name)
  end
  call('UNLINK', own.meta, own.policy, own.jobs, own.pasts, own.group_of, own.leases, own.running, own.next, own.keys, own.keys_by_expiry,
    own.dead, own.discarded, own.cards, own.counters, own.gates, own.types, own.workers, own.events, own.notes)
  lk.forget_policy(root)
  lk.forget_offers(root)
  call('PUBLISH', own.wake, 'policy')
  return jobs
end

lk.register('lk_destroy', destroy, {'allow-oom'})
