-- The busiest hours of the day over all conversations.
SELECT
    strftime(make_timestamp(hour(occurred_at) * 3600 * 1000000), '%H:00') AS hour,
    count(*) AS messages,
    bar(count(*), 0, max(count(*)) OVER (), 30) AS share
FROM messages
GROUP BY hour(occurred_at)
ORDER BY messages DESC, hour
LIMIT 6
