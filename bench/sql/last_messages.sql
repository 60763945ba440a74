-- The last 100 messages of a chat.
SELECT occurred_at, sender, direction, "text"
FROM messages
WHERE conversation = $name
ORDER BY sequence DESC
LIMIT 100
