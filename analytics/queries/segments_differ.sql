-- Whether the files `new_segments` and those that had `segment_columns` differ in their columns, and what a file has.
WITH files AS (
    SELECT list("name" ORDER BY "name") AS columns
    FROM parquet_schema(getvariable('new_segments'))
    GROUP BY file_name
),
layouts AS (
    SELECT columns FROM files
    UNION
    SELECT getvariable('segment_columns')::VARCHAR[] WHERE getvariable('segment_columns') IS NOT NULL
)
SELECT count(*) > 1, any_value(columns) FROM layouts
