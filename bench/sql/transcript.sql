-- One session's transcript.
SELECT occurred_at, type, sender, "text", "name", arguments, result
FROM events
WHERE session = $name
ORDER BY sequence
