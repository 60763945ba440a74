-- tool_calls: one row per call, with its answer. An id used again in a session is another call: the
-- nth answer belongs to the nth call.
CREATE OR REPLACE TEMP VIEW tool_calls AS
WITH numbered AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY partition, conversation, session, call, type ORDER BY sequence
        ) AS turn
    FROM events
    WHERE type IN ('tool.called', 'tool.returned')
),
paired AS (
    SELECT
        session,
        conversation,
        call,
        any_value("name") FILTER (type = 'tool.called') AS called_name,
        any_value("name") FILTER (type = 'tool.returned') AS returned_name,
        any_value(arguments) AS arguments,
        any_value(result) AS result,
        any_value(is_error) FILTER (type = 'tool.returned') AS is_error,
        any_value(duration_ms) AS reported_ms,
        any_value(occurred_at) FILTER (type = 'tool.called') AS called_at,
        any_value(occurred_at) FILTER (type = 'tool.returned') AS returned_at,
        partition,
        min(sequence) AS sequence
    FROM numbered
    GROUP BY partition, conversation, session, call, turn
)
SELECT
    called_at,
    conversation,
    session,
    coalesce(called_name, returned_name) AS "name",
    CASE WHEN returned_at IS NULL THEN 'pending' WHEN is_error THEN 'error' ELSE 'ok' END AS status,
    arguments,
    result,
    is_error,
    coalesce(reported_ms, epoch_ms(returned_at - called_at)) AS duration_ms,
    returned_at,
    call,
    partition,
    sequence
FROM paired;
