-- deliveries: one row per outbound message, whatever became of it. The last event decides: a
-- message that was sent and then bounced has failed, and so has one that was parked.
CREATE OR REPLACE TEMP VIEW deliveries AS
WITH attempts AS (
    SELECT
        *,
        CASE type
            WHEN 'message.queued' THEN 'queued'
            WHEN 'message.sent' THEN 'sent'
            WHEN 'dead_letter.parked' THEN 'failed'
            ELSE if(permanent, 'failed', 'retrying')
        END AS outcome,
        if(type = 'dead_letter.parked', causation_id, coalesce(delivery, id)) AS queued_id
    FROM events
    WHERE
        type IN ('message.queued', 'message.sent', 'delivery.failed')
        OR (
            type = 'dead_letter.parked'
            AND causation_id IN (SELECT id FROM events WHERE type = 'message.queued')
        )
)
SELECT
    queued_id AS delivery,
    arg_min(conversation, sequence) AS conversation,
    arg_max(outcome, sequence) AS status,
    arg_min(recipient, sequence) AS recipient,
    arg_min(session, sequence) AS session,
    arg_min("text", sequence) AS "text",
    arg_max(reason, sequence) AS reason,
    arg_max(code, sequence) AS code,
    arg_max(error, sequence) AS error,
    count(*) FILTER (type = 'delivery.failed') AS failure_count,
    min(occurred_at) FILTER (type = 'message.queued') AS queued_at,
    max(occurred_at) FILTER (type = 'message.sent') AS sent_at,
    max(occurred_at) FILTER (type = 'delivery.failed') AS last_failed_at,
    arg_max(platform, sequence) AS platform,
    partition
FROM attempts
GROUP BY queued_id, partition;
