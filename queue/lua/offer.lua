-- Offers: a worker that has room says so once, and jobs that come later are handed to it by the call that brings them. That saves
-- the round trips of waking and claiming. An offer only says that this worker's next claim may be made in its name: jobs are
-- handed out by the claim itself, so every gate, order and limit holds, and the worker gets that claim's reply as a message.
--
--   of hash: boot -> offer     oz zset: boots that have room, by when they were last handed something (µs)
--
-- A message may be lost. So the offer counts what it has handed out, the worker says with every claim how much it has heard of,
-- and what it has not heard of takes up room until it has. A worker that subscribed anew begins a new count (`epoch`) and looks up
-- its leases; whoever is not subscribed is handed nothing.

local O_IDENTITY, O_LANES, O_LIMITS, O_URGENT, O_ROOM, O_HANDED, O_EPOCH = 1, 2, 3, 4, 5, 6, 7

-- Workers that one call hands jobs to, and workers that it looks at for that.
local SERVED, LOOKED_AT = 2, 4

local function read_offer(ctx, boot)
  local offer = lk.decode(call('HGET', ctx.keys.offers, boot) or '')
  if offer and type(offer[O_IDENTITY]) == 'string' and type(offer[O_LANES]) == 'table' and type(offer[O_LIMITS]) == 'table'
    and type(offer[O_ROOM]) == 'number' and type(offer[O_HANDED]) == 'number' then
    return offer
  end
  return nil
end

local function write_offer(ctx, boot, offer)
  call('HSET', ctx.keys.offers, boot, pack(offer))
  if offer[O_ROOM] > 0 then
    call('ZADD', ctx.keys.offers_by_turn, 'NX', lk.digits(ctx.us), boot)
  else
    call('ZREM', ctx.keys.offers_by_turn, boot)
  end
end

local function count_of(value)
  return type(value) == 'number' and value >= 0 and floor(value) or 0
end

local function read_word(ctx, who, blob, want)
  local word = blob and blob ~= '' and lk.decode(blob)
  if not word then
    return nil
  end
  local said = {offers = word[1] == 1, epoch = count_of(word[2]), heard = count_of(word[3])}
  local offer = read_offer(ctx, who[1])
  said.handed = offer and offer[O_EPOCH] == said.epoch and max(offer[O_HANDED], said.heard) or said.heard
  said.stands = offer ~= nil
  local unheard = said.handed - said.heard
  if unheard > 0 then
    want.slots = max(0, want.slots - unheard)
    for name, most in pairs(want.limits) do
      want.limits[name] = max(0, most - unheard)
    end
  end
  return said
end

local function keep(ctx, who, identity, said, want, left)
  local names = {}
  for i, lane in ipairs(want.lanes) do
    names[i] = lane.name
  end
  local room = said.offers and left or 0
  write_offer(ctx, who[1], {identity, names, want.limits, want.urgent and 1 or 0, max(0, room), said.handed, said.epoch})
end

-- What is damaged here is no reason to refuse a claim: it is forgotten, and workers offer their room anew.
local function forgiving(ctx, act, ...)
  local ok, result = pcall(act, ctx, ...)
  if ok then
    return result
  end
  call('UNLINK', ctx.keys.offers, ctx.keys.offers_by_turn)
  return nil
end

-- What a claim says of its worker's offer, msgpack {offers (0|1), epoch, heard}; nil where it says nothing, as older workers do.
-- What was handed out unheard takes up room in `want`.
function lk.read_offer_word(ctx, who, blob, want)
  return forgiving(ctx, read_word, who, blob, want)
end

-- After a claim: what room it left is offered, or an earlier offer ends.
function lk.keep_offer(ctx, who, identity, said, want, left)
  if said and (said.stands or said.offers) then
    forgiving(ctx, keep, who, identity, said, want, left)
  end
end

-- The epoch of a worker's offer and how many jobs it was handed in it; nothing where it made none.
function lk.handed_to(ctx, boot)
  local offer = forgiving(ctx, read_offer, boot)
  if offer then
    return count_of(offer[O_EPOCH]), offer[O_HANDED]
  end
end

-- The worker is gone.
function lk.forget_offers(ctx, boots)
  call('HDEL', ctx.keys.offers, unpack_list(boots))
  call('ZREM', ctx.keys.offers_by_turn, unpack_list(boots))
end

-- A claim in the name of a worker that offered room; returns how many jobs it got.
local function hand_to(ctx, boot, most)
  local offer = read_offer(ctx, boot)
  local channel = ctx.keys.calls_of .. boot
  if not offer or offer[O_ROOM] <= 0 or call('PUBSUB', 'NUMSUB', channel)[2] == 0 then
    lk.forget_offers(ctx, {boot})
    return 0
  end
  if not redis.acl_check_cmd('PUBLISH', channel, '') then
    -- Whoever enqueues may not talk to workers.
    return 0
  end
  local want = {slots = min(most, offer[O_ROOM]), lanes = {}, limits = offer[O_LIMITS], urgent = offer[O_URGENT] == 1, shares = {}}
  for i, name in ipairs(offer[O_LANES]) do
    want.lanes[#want.lanes + 1] = ctx.policy.lane[name]
  end
  local out = lk.claim_for(ctx, offer[O_IDENTITY], want)
  if out.count > 0 then
    offer[O_ROOM], offer[O_HANDED] = offer[O_ROOM] - out.count, offer[O_HANDED] + out.count
    write_offer(ctx, boot, offer)
    call('PUBLISH', channel, pack({offer[O_EPOCH], out.reply}))
  end
  -- The next one is another's, and a worker that could take none is not asked again and again.
  call('ZADD', ctx.keys.offers_by_turn, 'XX', lk.digits(ctx.us), boot)
  return out.count
end

-- Jobs came into these lanes: {lane -> how many}. Where nothing else waits they are handed to workers that offered room. What
-- waits beside them is held by some gate, or somebody has been woken for it: then this is no time for short cuts.
function lk.hand_over(ctx, came)
  local keys, most = ctx.keys, 0
  local boots = call('ZRANGE', keys.offers_by_turn, 0, LOOKED_AT - 1)
  if not boots[1] or lk.queue_held(ctx) then
    return
  end
  for lane, count in pairs(came) do
    local waiting = 0
    for _, ty in ipairs(lane.types) do
      waiting = waiting + call('ZCARD', ty.ready)
    end
    most = most + (waiting <= count and count or 0)
  end
  local serving = most > 0 and lk.open({keys.root}, true)
  local served = 0
  for _, boot in ipairs(serving and boots or NONE) do
    local got = hand_to(serving, boot, most)
    most, served = most - got, served + (got > 0 and 1 or 0)
    if most <= 0 or served >= SERVED then
      break
    end
  end
  if served > 0 then
    lk.touch(serving)
  end
end
