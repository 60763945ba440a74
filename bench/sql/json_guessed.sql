-- archive, as JSON lines whose columns and types DuckDB finds out by itself.
CREATE OR REPLACE TEMP VIEW archive AS
SELECT
    * REPLACE (
        make_timestamp(occurred_at) AS occurred_at,
        make_timestamp(appended_at) AS appended_at
    ),
    make_timestamp(appended_at)::DATE AS "day"
FROM read_json_auto(getvariable('json_lines'));
