--[[ Read a document, those it points to, and what the log has after them, in one step.

KEYS  1 shelf   2 stream   3 head   4 documents   5 documents pointed to   6 versions      (one slot)
ARGV  1 msgpack array:
        1 place        { model, { field, mark, ... } that the shelf must hold, false for none }
        2 linked       the place of the model that is pointed to
        3 tail_limit   entries after the lower checkpoint at most
        4 key          of the document
        5 field        of the document, which holds a key of the other model
        6 entity       whose version the document's events advance; what holds it by now is fetched
                       too: the document will point there when the tail is folded over it

Returns  { 'moved', 1 or 2 }  the shelf holds other marks for that place: look there again; or
         { lower checkpoint, head, { entry, ... }, checkpoint, JSON or nil, checkpoint of the linked,
           { linked key, ... }, { JSON or nil, ... } }

Read-only. Cost grows with what is returned.
--]]
--!include documents
--!include entity
--!include place
--!include linked

return read_linked(KEYS, cmsgpack.unpack(ARGV[1]))
