-- archive, where the files are known by other names than their own.
CREATE OR REPLACE TEMP VIEW archive AS
SELECT *, appended_at::DATE AS "day"
FROM read_parquet(getvariable('segments'), hive_partitioning = false, union_by_name = true);
