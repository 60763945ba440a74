-- events: every entry of the log exactly once. The archive holds what is up to the archive
-- position, the tail what is after it. `raw` is the entry's JSON where the columns do not hold all
-- of it (own types, unknown keys, old schemas); null otherwise, and for bytes that are not text.
-- `is_erased` says that the content was erased; segments from before that was possible lack the column.
-- `day` is the UTC day of appending.
CREATE OR REPLACE TEMP VIEW events AS
SELECT * REPLACE (TRY(decode(raw)) AS raw, coalesce(is_erased, false) AS is_erased)
FROM (SELECT *, appended_at::DATE AS "day" FROM tail UNION ALL BY NAME FROM archive);
