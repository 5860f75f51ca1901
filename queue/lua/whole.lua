-- What a call asks before it writes: at a key that something else overwrote it fails while nothing has happened, and its error names
-- the key (see register.lua). What is not asked about here is written under `lk.try`: it can be found again from the records.

-- What all else can be found again from.
function lk.require_records(ctx)
  call('HLEN', ctx.keys.jobs)
  call('HLEN', ctx.keys.pasts)
  call('HLEN', ctx.keys.keys)
end

-- That, and what decides who runs which job and whether it may.
function lk.require_leases(ctx)
  lk.require_records(ctx)
  call('HLEN', ctx.keys.leases)
  call('ZCARD', ctx.keys.running)
  call('HLEN', ctx.keys.gates)
end

-- What decides about the turns of a type's concurrency keys.
function lk.require_groups(ctx, ty)
  call('ZCARD', ty.groups.turns)
  call('ZCARD', ty.groups.aside)
  call('HLEN', ty.groups.running)
  call('HLEN', ty.groups.arrivals)
  call('HLEN', ty.groups.holds)
  call('HLEN', ctx.keys.group_of)
end

-- The places in which jobs of the types wait: asked before jobs are put there, or taken from there for good.
function lk.require_places(ctx, types)
  local asked = {}
  for _, ty in ipairs(types) do
    if not asked[ty] then
      asked[ty] = true
      call('ZCARD', ty.ready)
      call('ZCARD', ty.scheduled)
      if ty.groups then
        lk.require_groups(ctx, ty)
      end
    end
  end
  if types[1] then
    call('ZCARD', ctx.keys.next)
  end
end
