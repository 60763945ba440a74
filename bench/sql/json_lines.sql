-- archive, as JSON lines instead of segments: the same columns, typed as they are read.
CREATE OR REPLACE TEMP VIEW archive AS
SELECT
    * REPLACE (
        make_timestamp(occurred_at) AS occurred_at,
        make_timestamp(appended_at) AS appended_at,
        raw::BLOB AS raw
    ),
    make_timestamp(appended_at)::DATE AS "day"
FROM read_json(
    getvariable('json_lines'),
    format = 'newline_delimited',
    columns = {columns}
);
