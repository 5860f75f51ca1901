-- Leases as bytes, and who holds them.
--
-- All jobs of one type that a call hands out share a token and the bytes of their lease. A token is therefore unique per
-- job and lease, not over jobs; for one job it only rises.

-- MARKS: 1 the job may have a key, 2 it has notes, 3 both. CANCEL: who asked for a cancellation; 0 nobody, 1 someone, as an older
-- library wrote it. The last two only after a takeover: token and identity of the worker that lost the job. The identity of
-- the holder also makes the bytes longer than Redis keeps in a small hash, whose fields it would search one by one.
local L_TOKEN, L_SINCE, L_TYPE, L_HOLDER, L_MARKS, L_CANCEL, L_LOST_TOKEN, L_LOST_BY = 1, 2, 3, 4, 5, 6, 7, 8

-- Leases by their bytes: few differ, and reading them again and again would cost more than all else a settlement does.
local known_leases, known_lease_count = {}, 0

-- The fields of a lease, not to be changed; nil when the bytes are none.
function lk.read_lease(raw)
  local lease = known_leases[raw]
  if lease then
    return lease
  end
  lease = lk.decode(raw)
  if not lease or type(lease[L_TOKEN]) ~= 'number' or type(lease[L_TYPE]) ~= 'string'
    or type(lease[L_SINCE]) ~= 'number' or type(lease[L_HOLDER]) ~= 'string' then
    return nil
  end
  lease.who = lk.read_identity(lease[L_HOLDER])
  if not lease.who then
    return nil
  end
  local marks, asked = tonumber(lease[L_MARKS]) or 0, lease[L_CANCEL]
  lease.keyed, lease.noted = marks % 2 == 1, marks >= 2
  lease.cancelled_by = asked == 1 and 'someone' or (type(asked) == 'string' and asked ~= '' and asked) or nil
  if known_lease_count >= 1024 then
    known_leases, known_lease_count = {}, 0
  end
  known_leases[raw] = lease
  known_lease_count = known_lease_count + 1
  return lease
end

-- The bytes of a new lease on jobs of the type.
function lk.new_lease(ctx, token, ty, holder, marks)
  return pack({token, ctx.now, ty.name, holder, marks})
end

-- The bytes of a lease with some of its fields changed.
function lk.lease_with(lease, changes)
  local fields = {}
  for i = 1, L_CANCEL do
    fields[i] = changes[i] or lease[i] or 0
  end
  fields[L_LOST_TOKEN] = changes[L_LOST_TOKEN] or lease[L_LOST_TOKEN]
  fields[L_LOST_BY] = changes[L_LOST_BY] or lease[L_LOST_BY]
  return pack(fields)
end

-- Whether the lease belongs to the caller: same token, same boot.
function lk.holds(lease, token, who)
  return lease[L_TOKEN] == token and lease.who[1] == who[1]
end

-- The parts of an identity {boot, name, pool, node}; nil when the bytes are none.
function lk.read_identity(blob)
  local who = lk.decode(blob)
  if who and type(who[1]) == 'string' and #who[1] > 0 and type(who[2]) == 'string' and type(who[3]) == 'string'
    and type(who[4]) == 'string' and lk.is_utf8(concat(who, ' ', 1, 4)) then
    return who
  end
  return nil
end
