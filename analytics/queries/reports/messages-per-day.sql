-- title: Messages per chat and day
-- description: What was said in each chat on each UTC day, in and out.
-- parameter: since time = none: only messages from this time on
-- parameter: until time = none: only messages before this time
-- parameter: chat text = none: only this conversation
-- plot: line x=day y=messages by=conversation unit=messages rest=sum
SELECT
    occurred_at::DATE AS day,
    conversation,
    count(*) AS messages,
    count(*) FILTER (direction = 'in') AS received,
    count(*) FILTER (direction = 'out') AS sent
FROM messages
WHERE
    ($since IS NULL OR occurred_at >= $since)
    AND ($until IS NULL OR occurred_at < $until)
    AND ($chat IS NULL OR conversation = $chat)
GROUP BY ALL
ORDER BY day, messages DESC, conversation
