-- lk_dead_delete root by id...  ->  {outcome, state} per id
--
-- deleted: the dead letter and its record are gone and its key is free. An entry whose record is missing or damaged is
-- removed as well and answers not-found.

local function delete_one(ctx, stage, by, id, job)
  if not job then
    call('ZREM', ctx.keys.dead, id)
    for _, name in ipairs(call('SMEMBERS', ctx.keys.types)) do
      call('ZREM', lk.type_of(ctx.policy, name).dead, id)
    end
    return {id, 'not-found', ''}
  end
  if job[STATE] ~= DEAD then
    return {id, 'wrong-state', lk.state_of(ctx, id, job)}
  end
  local ty = lk.type_of(ctx.policy, job[TYPE])
  lk.stage_undead(stage, ty, id)
  lk.stage_event(stage, 'deleted', id, ty, lk.clip(by, 128))
  lk.stage_free_key(ctx, stage, id, job[KEY])
  stage.record_del[#stage.record_del + 1] = id
  return {id, 'deleted', ''}
end

local function delete(keys, args)
  return lk.by_id(keys, args, 2, function(ctx, stage, id, job)
    return delete_one(ctx, stage, args[1], id, job)
  end)
end

redis.register_function{function_name = 'lk_dead_delete', callback = delete, flags = {'allow-oom'}}
