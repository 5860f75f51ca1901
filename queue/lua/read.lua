-- Reading jobs: records and pasts of many ids. A record may be large, and reading many such would keep everybody else waiting.

-- Records and pasts of jobs.
function lk.read_all(ctx, ids)
  return call('HMGET', ctx.keys.jobs, unpack_list(ids)), call('HMGET', ctx.keys.pasts, unpack_list(ids))
end

-- Records that a call reads at first.
local PIECE = 8

-- The same of as many of the ids, from the first, as have at most `most` bytes, and of one at least unless `none` will do; and how
-- many those are, and how many bytes were read. In pieces, each as long as what was read lets expect, and as fits even where all
-- payloads are as large as they may be: only reading tells the size, and takes its time.
function lk.read_within(ctx, ids, most, none)
  local records, pasts, read, bytes, piece = {}, {}, 0, 0, PIECE
  local largest = max(PIECE, floor(lk.CLAIM_BYTES / max(1, ctx.policy.max_payload)))
  while read < #ids do
    local some = {unpack_list(ids, read + 1, min(#ids, read + piece))}
    local raws, theirs = lk.read_all(ctx, some)
    for i = 1, #some do
      bytes = bytes + (raws[i] and #raws[i] or 0) + (theirs[i] and #theirs[i] or 0)
      if bytes > most and (none or read > 0) then
        return records, pasts, read, bytes
      end
      read = read + 1
      records[read], pasts[read] = raws[i], theirs[i]
    end
    piece = max(1, min(4 * piece, largest, floor((most - bytes) * read / max(1, bytes))))
  end
  return records, pasts, read, bytes
end
