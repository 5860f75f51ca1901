//! What no call tells: whether each job in line stands where the turns of its concurrency key find it, and whether what counts
//! against the limits of keys is what runs. A job that stands in no such line would never be handed out.

use lanekeeper_queue::testing::model::Reply;

use crate::bench::Bench;

/// Arguments: types with a concurrency key. Lines of those that were not sorted since they came to have one are left out.
const LOOK: &str = r"
local root, wrong, running = KEYS[1], {}, {}
local function key(...) return root .. ':' .. table.concat({...}, ':') end
local function say(...) wrong[#wrong + 1] = table.concat({...}, ' ') end
local function group_of(id) return redis.call('HGET', key('yg'), id) or '' end

local leases = redis.call('HGETALL', key('l'))
for i = 1, #leases, 2 do
  local name = key('yr', cmsgpack.unpack(leases[i + 1])[3])
  running[name] = running[name] or {}
  local group = group_of(leases[i])
  running[name][group] = (running[name][group] or 0) + 1
end

local function look_at_counts(kind)
  local right = running[key('yr', kind)] or {}
  local counts = redis.call('HGETALL', key('yr', kind))
  for i = 1, #counts, 2 do
    local runs = right[counts[i]] or 0
    if tonumber(counts[i + 1]) ~= runs then
      say('of the key', counts[i], 'of', kind, counts[i + 1], 'are counted but', runs, 'run')
    end
    right[counts[i]] = nil
  end
  for group, runs in pairs(right) do
    say('of the key', group, 'of', kind, 'none are counted but', runs, 'run')
  end
end

local function look_at_lines(kind)
  local line, lines = redis.call('ZRANGE', key('q', kind), 0, -1, 'WITHSCORES'), {}
  for i = 1, #line, 2 do
    local group = group_of(line[i])
    if redis.call('ZSCORE', key('y', kind, group), line[i]) ~= line[i + 1] then
      say('job', line[i], 'of', kind, 'stands elsewhere in the line of its key', group)
    end
    lines[group] = (lines[group] or 0) + 1
  end
  for group, count in pairs(lines) do
    local all = redis.call('ZCARD', key('y', kind, group))
    local turn, aside = redis.call('ZSCORE', key('yt', kind), group), redis.call('ZSCORE', key('yp', kind), group)
    if all ~= count then
      say('in the line of the key', group, 'of', kind, 'stand', all, 'instead of', count)
    end
    if (turn and aside) or not (turn or aside) then
      say('the key', group, 'of', kind, 'has the turn', tostring(turn), 'and stands aside until', tostring(aside))
    end
  end
  for _, index in ipairs({'yt', 'yp'}) do
    for _, group in ipairs(redis.call('ZRANGE', key(index, kind), 0, -1)) do
      if not lines[group] then
        say('the key', group, 'of', kind, 'is in', index, 'and has no jobs')
      end
    end
  end
end

for _, kind in ipairs(ARGV) do
  look_at_counts(kind)
  if redis.call('HEXISTS', key('g'), 'ungrouped:' .. kind) == 0 then
    look_at_lines(kind)
  end
end
return table.concat(wrong, '\n')
";

impl Bench {
    /// What stands wrong of the keys of these types, if anything does.
    pub async fn misplaced(&self, kinds: &[String]) -> Option<Reply> {
        if kinds.is_empty() {
            return None;
        }
        let mut conn = self.queue().connection();
        let root = self.queue().name().root();
        let found = redis::cmd("EVAL").arg(LOOK).arg(1).arg(root).arg(kinds).query_async(&mut conn).await;
        let wrong: String = found.unwrap();
        (!wrong.is_empty()).then_some(Reply::Failed(wrong))
    }
}
