-- events: every entry of the log exactly once. The archive holds what is up to the archive
-- position, the tail what is after it. `raw` is the entry's JSON where the columns do not hold all
-- of it (own types, unknown keys, old schemas); null otherwise, and for bytes that are not text.
CREATE OR REPLACE TEMP VIEW events AS
SELECT * REPLACE (TRY(decode(raw)) AS raw)
FROM (FROM tail UNION ALL BY NAME FROM archive);
