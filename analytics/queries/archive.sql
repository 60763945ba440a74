-- archive: the entries in segments. `segments` is the list of files that cover each partition.
CREATE OR REPLACE TEMP VIEW archive AS
SELECT * FROM read_parquet(getvariable('segments'), hive_partitioning = false);
