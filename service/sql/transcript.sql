-- The last events of a session that a transcript shows, newest first.
SELECT {columns}
FROM events
WHERE
    partition = $partition
    AND session = $session
    AND type IN ({types})
    AND ($before IS NULL OR sequence < $before)
ORDER BY sequence DESC
LIMIT $count
