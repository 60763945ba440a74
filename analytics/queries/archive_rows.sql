-- archive, where its rows come as a table.
CREATE OR REPLACE TEMP VIEW archive AS
SELECT *, appended_at::DATE AS "day" FROM segment_rows;
