-- archive, while there is no segment: typed and empty, since read_parquet([]) is an error.
CREATE OR REPLACE TEMP VIEW archive AS
SELECT *, appended_at::DATE AS "day" FROM tail WHERE false;
