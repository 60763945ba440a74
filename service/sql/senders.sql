-- The ten who wrote most.
SELECT sender, count(*) AS messages, count(DISTINCT conversation) AS conversations
FROM messages
WHERE sender IS NOT NULL
GROUP BY sender
ORDER BY messages DESC, sender
LIMIT 10
