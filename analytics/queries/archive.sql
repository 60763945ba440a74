-- archive: the entries in segments. `segments` is the list of files that cover each partition; those
-- written before a column was added have null in it. To bring columns together by name DuckDB opens every
-- file while it plans, so it is told to only where the files' columns differ: `segments_differ`.
-- Partition and day are what the file's name says:
-- a query that asks for some of them opens no other file. Asked for a conversation or a session, the
-- row groups tell by their bloom filters whether they may have it.
CREATE OR REPLACE TEMP VIEW archive AS
SELECT
    * EXCLUDE (filename)
    REPLACE (regexp_extract(filename, '/p(\d+)-[^/]*$', 1)::INTEGER AS "partition"),
    regexp_extract(filename, '/day=([^/]+)/[^/]*$', 1)::DATE AS "day"
FROM read_parquet(
    getvariable('segments'),
    filename = true,
    hive_partitioning = false,
    union_by_name = getvariable('segments_differ')
);
