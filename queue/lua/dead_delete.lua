-- lk_dead_delete root by id...  ->  {outcome, state} per id
--
-- deleted: the dead letter and its record are gone and its key is free. An entry whose record is missing or damaged is
-- removed as well and answers not-found.

local function delete_one(ctx, stage, id, raw)
  local rec = lk.read_record(raw)
  if not rec then
    call('ZREM', ctx.keys.dead, id)
    for _, name in ipairs(call('SMEMBERS', ctx.keys.types)) do
      call('ZREM', lk.type_of(ctx.policy, name).dead, id)
    end
    return {id, 'not-found', ''}
  end
  if rec[STATE] ~= DEAD then
    return {id, 'wrong-state', lk.state_of(ctx, id, rec)}
  end
  lk.stage_undead(stage, lk.type_of(ctx.policy, rec[TYPE]), id)
  lk.stage_free_key(ctx, stage, id, rec[KEY])
  stage.record_del[#stage.record_del + 1] = id
  return {id, 'deleted', ''}
end

local function delete(keys, args)
  local ctx, failure = lk.open(keys)
  if failure then
    return failure
  end
  local ids, wrong = lk.read_ids(args, 2)
  if not lk.is_utf8(args[1] or '') then
    wrong = lk.error('LKARGS', 'the name of who asks must be UTF-8')
  end
  if wrong then
    return wrong
  end
  local records = call('HMGET', ctx.keys.jobs, unpack_list(ids))
  local stage, replies = lk.stage(), {}
  for i, id in ipairs(ids) do
    replies[i] = delete_one(ctx, stage, id, records[i])
  end
  lk.commit(ctx, stage)
  return replies
end

redis.register_function{function_name = 'lk_dead_delete', callback = delete, flags = {'allow-oom'}}
