-- title: Response latency per session
-- description: How long a session let people wait: from the first message received since the last
--     answer to the next one sent, by the producers' clocks. What was never answered does not count,
--     nor does an answer that is dated before its question.
-- parameter: since time = none: only sessions first answered from this time on
-- parameter: until time = none: only sessions first answered before this time
-- parameter: chat text = none: only this conversation
-- plot: points x=first_answer_at y=p50_s,p95_s unit=seconds scale=log
WITH said AS (
    SELECT
        session,
        conversation,
        occurred_at,
        type = 'message.sent' AS is_answer,
        lag(type, 1, 'message.sent') OVER in_session = 'message.sent' AS follows_answer,
        sequence,
        partition
    FROM events
    WHERE
        type IN ('message.received', 'message.sent')
        AND session IS NOT NULL
        AND ($chat IS NULL OR conversation = $chat)
    WINDOW in_session AS (PARTITION BY partition, session ORDER BY sequence)
),
-- Of each turn two messages are left: the one that opens it, and the one that answers it.
turns AS (
    SELECT
        session,
        conversation,
        is_answer,
        occurred_at AS answered_at,
        lag(occurred_at) OVER (PARTITION BY partition, session ORDER BY sequence) AS asked_at
    FROM said
    WHERE is_answer <> follows_answer
)
SELECT
    session,
    any_value(conversation) AS conversation,
    count(*) AS answers,
    round(quantile_cont(epoch_us(answered_at - asked_at), 0.5) / 1e6, 3) AS p50_s,
    round(quantile_cont(epoch_us(answered_at - asked_at), 0.95) / 1e6, 3) AS p95_s,
    round(max(epoch_us(answered_at - asked_at)) / 1e6, 3) AS longest_s,
    min(answered_at) AS first_answer_at
FROM turns
WHERE is_answer AND answered_at >= asked_at
GROUP BY session
HAVING
    ($since IS NULL OR first_answer_at >= $since)
    AND ($until IS NULL OR first_answer_at < $until)
ORDER BY p95_s DESC, session
