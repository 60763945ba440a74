-- What was done in a conversation between two of its messages, in order.
SELECT {columns}
FROM events
WHERE
    partition = $partition
    AND conversation = $conversation
    AND type IN ('tool.called', 'tool.returned', 'session.started', 'session.transitioned')
    AND sequence >= $first
    AND ($before IS NULL OR sequence < $before)
ORDER BY sequence
LIMIT $count
