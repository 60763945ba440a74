-- Return whether a shelf still holds the marks { field, mark, ... } by which a place was found, false
-- standing for none: then nothing was begun or swapped since, and it is still the place to look.
local function is_there(shelf, marks)
  for i = 1, #marks, 2 do
    if redis.call('HGET', shelf, marks[i]) ~= marks[i + 1] then return false end
  end
  return true
end
