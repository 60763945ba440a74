--[[ Read documents of one build, its checkpoint, and what the log has after it, in one step.

KEYS  1 shelf   2 stream   3 head   4 documents   5.. indexes, facets      (one slot)
ARGV  1 msgpack array; an index or facet is given as its place in KEYS:
        1 place        { model, { field, mark, ... } that the shelf must hold, false for none }
        2 tail_limit   entries after the checkpoint at most; 0: none
        3 documents    document keys to fetch, may be empty
        4 facets       facets whose counts to fetch, may be empty
        5 page         { index, limit, lowest score, after score, after document }, where `after`
                       says below what the page starts, false and false for the first page;
                       or false

Returns  { 'moved' }  the shelf holds other marks: look there again; or
         { checkpoint, head, { entry, ... }, { JSON or nil, ... }, { { value, count, ... }, ... },
           { document, score, ... }, { JSON or nil, ... } }
         the last two being the page, by (score, document) from the highest down, and its documents

Read-only. Cost grows with what is returned, and with the logarithm of the index.
--]]
--!include documents
--!include place

local request = cmsgpack.unpack(ARGV[1])
local place, tail_limit, wanted, facets, page =
  request[1], request[2], request[3], request[4], request[5]
local model = place[1]

-- Members of one score are kept in the order of their bytes; `<` would compare by the locale.
local function is_below(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- Return how many members stand above (score, member), from the highest down, itself included.
local function rank_after(index, score, member)
  if not member then return 0 end
  local low = redis.call('ZCOUNT', index, '(' .. score, '+inf')
  local high = low + redis.call('ZCOUNT', index, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_below(redis.call('ZREVRANGE', index, middle, middle)[1], member) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

if not is_there(KEYS[1], place[2]) then
  return { 'moved' }
end
local checkpoint = redis.call('HGET', KEYS[1], model) or '0-0'
local head = redis.call('GET', KEYS[3]) or '0-0'
local tail = {}
if tail_limit > 0 and head ~= checkpoint then
  tail = redis.call('XRANGE', KEYS[2], '(' .. checkpoint, '+', 'COUNT', tail_limit)
end

local counts = {}
for i, facet in ipairs(facets) do
  counts[i] = redis.call('ZRANGE', KEYS[facet], 0, -1, 'WITHSCORES')
end

local members, page_documents = {}, {}
if page then
  local index = KEYS[page[1]]
  local skipped = rank_after(index, page[4], page[5])
  local found = redis.call('ZREVRANGE', index, skipped, skipped + page[2] - 1, 'WITHSCORES')
  for i = 1, #found, 2 do
    if tonumber(found[i + 1]) < page[3] then break end
    members[#members + 1] = found[i]
    members[#members + 1] = found[i + 1]
    page_documents[#page_documents + 1] = found[i]
  end
  page_documents = fetch_documents(KEYS[4], page_documents)
end

return { checkpoint, head, tail, fetch_documents(KEYS[4], wanted), counts, members, page_documents }
