-- title: Busiest hours of the day
-- description: How many messages fell into each UTC hour of the day, over all days.
-- parameter: since time = none: only messages from this time on
-- parameter: until time = none: only messages before this time
-- parameter: chat text = none: only this conversation
-- plot: bars x=hour y=messages unit=messages
WITH of_conversations AS (
    SELECT hour(occurred_at) AS hour, conversation, count(*) AS messages
    FROM messages
    WHERE
        ($since IS NULL OR occurred_at >= $since)
        AND ($until IS NULL OR occurred_at < $until)
        AND ($chat IS NULL OR conversation = $chat)
    GROUP BY ALL
),
counted AS (
    SELECT hour, sum(messages)::BIGINT AS messages, count(conversation) AS conversations
    FROM of_conversations
    GROUP BY hour
)
SELECT
    format('{:02d}:00', range) AS hour,
    coalesce(messages, 0) AS messages,
    coalesce(conversations, 0) AS conversations,
    round(100 * coalesce(messages, 0) / nullif(sum(messages) OVER (), 0), 1) AS percent
FROM range(24)
LEFT JOIN counted ON hour = range
ORDER BY range
