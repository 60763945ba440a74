-- archive: the entries in segments. `segments` is the list of files that cover each partition; those
-- written before a column was added have null in it.
CREATE OR REPLACE TEMP VIEW archive AS
SELECT * FROM read_parquet(getvariable('segments'), hive_partitioning = false, union_by_name = true);
