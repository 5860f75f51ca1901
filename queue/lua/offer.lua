-- Offers: a worker that has room says so with its claim, and jobs that come later are handed to it by the call that brings them: they
-- are leased at once, and their worker gets what a claim would have been answered as a message. That saves the round trips of
-- waking and claiming. It is for jobs that nothing holds back: of lanes without gates, of types without a concurrency key, where nothing
-- waits before them. All others stand in line as ever.
--
-- A message may be lost. So the offer counts what was handed out, the worker says with every claim how much it has heard of, and
-- what it has not heard of takes up room until it has. A worker that subscribed anew begins a new count (`epoch`) and looks up its
-- leases; whoever is not subscribed is handed nothing. Nor is whoever has not been heard from for longer than heartbeats take, or
-- has not said for a while that it heard of what it was handed: it may be frozen, and what it is handed waits for a whole lease.
--
-- Offers are kept in the memory of this server only: where they are lost with it, its workers subscribe and offer anew.

-- By queue: offers by boot, the boots that have room in a ring, and the place there of the one whose turn it is.
local offered, offered_count = {}, 0
-- Most workers of a queue whose room is known, and that one call looks at.
local MOST, LOOKED_AT = 1000, 4
-- Longest time since a sign of life of a worker, which gives one every 5 s; and since the first job that it was handed and has not
-- told of: long for a message, and short beside a lease. Both in ms.
local FRESH, UNHEARD = 7500, 100

local function offers_of(root)
  local own = offered[root]
  if not own then
    if offered_count >= 1024 then
      offered, offered_count = {}, 0
    end
    own = {of = {}, boots = {}, turn = 1}
    offered[root] = own
    offered_count = offered_count + 1
  end
  return own
end

-- Whether any worker of the queue may have offered room.
function lk.has_offers(root)
  local own = offered[root]
  return own ~= nil and own.boots[1] ~= nil
end

-- Takes the worker out of those that have room.
local function withdraw(own, boot)
  local offer = own.of[boot]
  if offer and offer.room > 0 then
    offer.room = 0
    for at, other in ipairs(own.boots) do
      if other == boot then
        own.turn = at < own.turn and own.turn - 1 or own.turn
        return table.remove(own.boots, at)
      end
    end
  end
end

-- The worker is gone.
function lk.forget_offer(root, boot)
  local own = offered[root]
  if own then
    withdraw(own, boot)
    own.of[boot] = nil
  end
end

-- Forgets the offers of workers that are not among these, {boot, heartbeat, ...}.
function lk.forget_offers_but(root, beats)
  local own, alive = offered[root], {}
  for i = 1, #beats, 2 do
    alive[beats[i]] = true
  end
  for boot in pairs(own and own.of or NONE) do
    if not alive[boot] then
      lk.forget_offer(root, boot)
    end
  end
end

-- The queue is gone.
function lk.forget_offers(root)
  if offered[root] then
    offered[root] = nil
    offered_count = offered_count - 1
  end
end

local function count_of(value)
  return type(value) == 'number' and value >= 0 and floor(value) or 0
end

-- What a claim says of its worker's offer, msgpack {offers (0|1), epoch, heard}; nil where it says nothing, as older workers do.
-- What was handed out unheard takes up room in `want`.
function lk.read_offer(ctx, who, blob, want)
  local word = blob and blob ~= '' and lk.decode(blob)
  if not word then
    return nil
  end
  local said = {offers = word[1] == 1, epoch = count_of(word[2]), heard = count_of(word[3])}
  local offer = offers_of(ctx.keys.root).of[who[1]]
  said.handed = offer and offer.epoch == said.epoch and max(offer.handed, said.heard) or said.heard
  local unheard = said.handed - said.heard
  if unheard > 0 then
    want.slots = max(0, want.slots - unheard)
    for name, most in pairs(want.limits) do
      want.limits[name] = max(0, most - unheard)
    end
  end
  return said
end

-- After a claim: the room it left is offered, or an earlier offer ends. What was handed out is remembered all the same.
function lk.keep_offer(ctx, who, identity, said, want, left)
  if not said then
    return
  end
  local own, boot = offers_of(ctx.keys.root), who[1]
  local before, lanes, unheard = own.of[boot], {}, nil
  if said.handed > said.heard then
    local same = before and before.epoch == said.epoch and before.heard == said.heard
    unheard = same and before.unheard or ctx.now
  end
  for _, lane in ipairs(want.lanes) do
    lanes[lane.name] = true
  end
  withdraw(own, boot)
  local room = said.offers and #own.boots < MOST and max(0, left) or 0
  own.of[boot] = {
    identity = identity, lanes = lanes, several = #want.lanes > 1, limits = want.limits, room = room, handed = said.handed,
    heard = said.heard, unheard = unheard, epoch = said.epoch, version = ctx.policy.version, seen = ctx.now,
  }
  if room > 0 then
    -- Behind all others: a worker that claims after each job would have its turn before them again and again.
    table.insert(own.boots, own.turn, boot)
    own.turn = own.turn + 1
  end
end

-- A worker gives a sign of life. The epoch of its offer and how many jobs it was handed in it; nothing where it made none.
function lk.handed_to(ctx, boot)
  local own = offered[ctx.keys.root]
  local offer = own and own.of[boot]
  if offer then
    offer.seen = ctx.now
    return offer.epoch, offer.handed
  end
end

-- Whether the worker may be taken to hear at once what it is handed.
local function is_awake(ctx, offer)
  local silent, unheard = ctx.now - offer.seen, offer.unheard and ctx.now - offer.unheard or 0
  return silent >= 0 and silent <= FRESH and unheard <= UNHEARD
end

-- How many listen to the worker's channel, if it may be handed so many jobs of the type. Its limits are those of the policy under which
-- it offered. Its last slot is not given away where it has several lanes: it may have been woken for a job that goes first.
local function takes(ctx, offer, boot, ty, count)
  local channel = ctx.keys.calls_of .. boot
  return offer.version == ctx.policy.version and offer.lanes[ty.lane.name] and offer.room >= count + (offer.several and 1 or 0)
    and (offer.limits[ty.name] or count) >= count and is_awake(ctx, offer)
    -- Whoever enqueues may have no right to talk to workers.
    and redis.acl_check_cmd('PUBLISH', channel, '') and call('PUBSUB', 'NUMSUB', channel)[2]
end

-- The worker whose turn it is among those that may be handed so many jobs of the type; nil when there is none.
local function taker(ctx, ty, count)
  local own = offers_of(ctx.keys.root)
  for _ = 1, min(LOOKED_AT, #own.boots) do
    local at = own.turn <= #own.boots and own.turn or 1
    local boot = own.boots[at]
    local listeners = takes(ctx, own.of[boot], boot, ty, count)
    own.turn = at + 1
    if listeners == 0 then
      lk.forget_offer(ctx.keys.root, boot)
    elseif listeners then
      return boot, own.of[boot]
    end
  end
end

-- Whether nothing holds so many jobs of the type back, and nothing waits before them. Any lane may be paused or held.
local function go_at_once(ctx, ty, count)
  local lane = ty.lane
  return lane and not ty.groups and not lane.gated and not lk.lane_waits(lane) and lk.lane_room(ctx, lane, count) == count
end

-- Leases the jobs of a type that a call is about to put in line, {score, id, ...}, to a worker that offered room.
local function hand_to(ctx, stage, ty, ready, boot, offer, records)
  local count, expiry = #ready / 2, lk.digits(ctx.now + ctx.lease)
  -- Fails where leases cannot be written: the jobs stand in line then, as without offers.
  call('HLEN', ctx.keys.leases)
  call('ZCARD', ctx.keys.running)
  local token = lk.new_token(ctx)
  local reply = {ctx.now, ctx.policy.version, -1, '', '', token, {}, {}, 0}
  for i = 2, #ready, 2 do
    local id, raw = ready[i], records[ready[i]]
    local marks = byte(raw, 1) > PLAIN and 1 or 0
    lk.push2(stage.lease_set, id, lk.new_lease(ctx, token, ty, offer.identity, marks))
    lk.push2(stage.running_add, expiry, id)
    lk.push2(reply, id, ty.lane.name)
    lk.push2(reply, raw, '')
  end
  lk.count(stage, 'r', ty, count)
  lk.asked_for(ctx, ty.lane)
  if offer.room == count then
    withdraw(offers_of(ctx.keys.root), boot)
  else
    offer.room = offer.room - count
  end
  offer.handed, offer.unheard = offer.handed + count, offer.unheard or ctx.now
  offer.limits[ty.name] = offer.limits[ty.name] and offer.limits[ty.name] - count
  return {ctx.keys.calls_of .. boot, pack({offer.epoch, reply})}
end

local function by_id(list)
  local found = {}
  for i = 1, #list, 2 do
    found[list[i]] = list[i + 1]
  end
  return found
end

-- Hands over what may go at once of the jobs that a call is about to put in line; adds what to tell once that is written to `told`:
-- {channel, message} each. Reads before it stages, type by type: where it fails half-way, what it has done stands.
function lk.hand_over(ctx, stage, told)
  local records
  if lk.queue_held(ctx) then
    return
  end
  for _, ty in ipairs(stage.touched) do
    local has = stage.types[ty].has
    local ready = has.ready
    if ready and #ready <= 2 * lk.HAND_OVER and go_at_once(ctx, ty, #ready / 2) then
      local boot, offer = taker(ctx, ty, #ready / 2)
      if boot then
        records = records or by_id(stage.has.record_set)
        told[#told + 1] = hand_to(ctx, stage, ty, ready, boot, offer, records)
        has.ready = nil
      end
    end
  end
end
