-- lk_dead_list root type or '' limit cursor or ''  ->  {now, views, next cursor or ''}, newest first

local function dead_list(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  local limit = tonumber(args[2])
  if #args ~= 3 or not limit or limit < 1 then
    return lk.error('LKARGS', 'lk_dead_list takes type, limit and cursor; the limit is 1 to 200')
  end
  local index = args[1] == '' and ctx.keys.dead or lk.type_of(ctx.policy, args[1]).dead
  local ids, cursor = lk.page(index, floor(min(limit, lk.MAX_BATCH)), args[3], true)
  local views = {}
  for _, view in ipairs((lk.views(ctx, ids, false))) do
    if view then
      views[#views + 1] = view
    end
  end
  return {ctx.now, views, cursor}
end

redis.register_function{function_name = 'lk_dead_list', callback = dead_list, flags = {'no-writes'}}
