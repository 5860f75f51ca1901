-- lk_destroy root  ->  number of job records that were there
--
-- Deletes everything the queue has; -1: call again, for there is more. Its keys are few and UNLINK frees their contents in the
-- background, but for the lines of concurrency keys, which are as many as keys that wait: of those a call deletes some.

-- Lines of concurrency keys that a call deletes.
local LINES = 5000

-- The lanes' wake lists, also of a queue whose policy is gone.
local function wake_lists(own, policy)
  local lists = {}
  for _, lane in ipairs(policy and policy.lanes or NONE) do
    lists[#lists + 1] = lane.wake
  end
  local meta = call('HGETALL', own.meta)
  for i = 1, #meta, 2 do
    local name = string.match(meta[i], '^b:(.+)$')
    lists[#lists + 1] = name and own.wake_of .. name
  end
  return lists
end

local function destroy(keys)
  lk.boot()
  local root, wrong = keys[1], lk.wrong_root(keys)
  if wrong then
    return wrong
  end
  local own = lk.keys_of(root)
  local jobs = call('HLEN', own.jobs)
  local text = call('GET', own.policy)
  local ok, policy = pcall(lk.compile, root, 0, text or '')
  local lists = wake_lists(own, ok and policy)
  if lists[1] then
    call('UNLINK', unpack_list(lists))
  end
  for _, name in ipairs(call('SMEMBERS', own.types)) do
    if lk.remove_lines(own, name, LINES) then
      return -1
    end
    local groups = lk.group_keys(own, name)
    call('UNLINK', own.ready_of .. name, own.scheduled_of .. name, own.finished_of .. name, own.dead_of .. name,
      own.discarded_of .. name, groups.running, groups.arrivals, groups.holds, groups.classes)
  end
  call('UNLINK', own.meta, own.policy, own.jobs, own.pasts, own.group_of, own.leases, own.running, own.next, own.keys, own.keys_by_expiry,
    own.dead, own.discarded, own.cards, own.counters, own.gates, own.types, own.workers, own.events, own.notes)
  lk.forget_policy(root)
  lk.forget_offers(root)
  call('PUBLISH', own.wake, 'policy')
  return jobs
end

lk.register('lk_destroy', destroy, {'allow-oom'})
