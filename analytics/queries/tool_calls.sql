-- tool_calls: one row per call, with its answer. An id used again in a session is another call: the
-- nth answer belongs to the nth call.
CREATE OR REPLACE TEMP VIEW tool_calls AS
WITH calls AS (
    SELECT * FROM events WHERE type IN ('tool.called', 'tool.returned')
),
-- Hardly any id is used again, and numbering them all takes longer than all the rest.
used_again AS (
    SELECT partition, conversation, session, call
    FROM calls
    GROUP BY ALL
    HAVING greatest(
        count(*) FILTER (type = 'tool.called'), count(*) FILTER (type = 'tool.returned')
    ) > 1
),
turns AS (
    SELECT
        calls.partition,
        calls.sequence,
        row_number() OVER (
            PARTITION BY
                calls.partition, calls.conversation, calls.session, calls.call, calls.type
            ORDER BY calls.sequence
        ) AS turn
    FROM calls
    SEMI JOIN used_again
        ON
            calls.partition = used_again.partition
            AND calls.conversation IS NOT DISTINCT FROM used_again.conversation
            AND calls.session IS NOT DISTINCT FROM used_again.session
            AND calls.call IS NOT DISTINCT FROM used_again.call
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
    FROM calls
    LEFT JOIN turns USING (partition, sequence)
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
