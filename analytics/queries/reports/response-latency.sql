-- title: Response latency per session
-- description: How long a session let people wait: from the first message received since the last
--     answer to the next one sent, by the producers' clocks. What was never answered does not count,
--     nor does an answer that is dated before its question.
-- parameter: since time = none: only sessions first answered from this time on
-- parameter: until time = none: only sessions first answered before this time
-- parameter: chat text = none: only this conversation
-- plot: points x=first_answer_at y=p50_s,p95_s unit=seconds scale=log
WITH said AS (
    -- In the order of the log, a list for each session: a window over the rows takes twice as long.
    SELECT
        session,
        any_value(conversation) AS conversation,
        list_sort(
            list({'n': sequence, 'at': occurred_at, 'is_answer': type = 'message.sent'})
        ) AS messages
    FROM events
    WHERE
        type IN ('message.received', 'message.sent')
        AND session IS NOT NULL
        AND ($chat IS NULL OR conversation = $chat)
    GROUP BY partition, session
),
-- Of each turn two messages are left: the one that opens it, and the one that answers it.
turning AS (
    SELECT
        session,
        conversation,
        list_filter(
            messages,
            lambda message, i: message.is_answer <> coalesce(messages[i - 1].is_answer, true)
        ) AS messages
    FROM said
),
turns AS (
    SELECT
        session,
        conversation,
        unnest(messages[1:-:2]).at AS asked_at,
        unnest(messages[2:-:2]).at AS answered_at
    FROM turning
)
SELECT
    session,
    any_value(conversation) AS conversation,
    count(*) AS answers,
    round(quantile_cont(epoch_us(answered_at - asked_at), [0.5, 0.95])[1] / 1e6, 3) AS p50_s,
    round(quantile_cont(epoch_us(answered_at - asked_at), [0.5, 0.95])[2] / 1e6, 3) AS p95_s,
    round(max(epoch_us(answered_at - asked_at)) / 1e6, 3) AS longest_s,
    min(answered_at) AS first_answer_at
FROM turns
WHERE answered_at >= asked_at
GROUP BY session
HAVING
    ($since IS NULL OR first_answer_at >= $since)
    AND ($until IS NULL OR first_answer_at < $until)
ORDER BY p95_s DESC, session
