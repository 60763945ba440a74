-- messages: what was said, in both directions. Queued messages are no messages yet: `deliveries`.
CREATE OR REPLACE TEMP VIEW messages AS
SELECT
    occurred_at,
    conversation,
    CASE type WHEN 'message.sent' THEN 'out' ELSE 'in' END AS direction,
    sender,
    "text",
    message_type,
    session,
    message_id,
    reply_to,
    platform,
    attachments,
    metadata,
    delivery,
    is_erased,
    id,
    appended_at,
    partition,
    sequence
FROM events
WHERE type IN ('message.received', 'message.sent');
