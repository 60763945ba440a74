-- The table of shared_counts.in_log, (name, n), computed by SQL over the events.
WITH sourced AS (
    SELECT *, split_part(conversation, ':', 1) AS source
    FROM events
),
irc AS (
    SELECT
        if(conversation = 'irc:#ubuntu', 'irc-ubuntu', 'irc-new-domains') AS folder,
        CASE
            WHEN type LIKE 'message.%' THEN if(message_type = 'text', 'message', message_type)
            WHEN conversation = 'irc:#ubuntu' AND event_type <> 'irc.other' THEN 'system'
            ELSE 'other'
        END AS kind
    FROM sourced
    WHERE source = 'irc'
),
-- A record's events share the correlation id `<kind>:<id>`.
records AS (
    SELECT DISTINCT
        source,
        conversation,
        correlation_id,
        regexp_replace(correlation_id, ':[^:]*$', '') AS kind
    FROM sourced
    WHERE source IN ('claude-code', 'openhands', 'tau-bench') AND correlation_id <> ''
),
names AS (
    SELECT folder || ' ' || kind AS name FROM irc

    UNION ALL
    SELECT
        CASE source
            WHEN 'openhands'
                THEN 'agent-openhands ' || split_part(conversation, ':', 2) || ' by.' || kind
            WHEN 'claude-code' THEN 'agent-claude-code records.' || kind
            ELSE 'agent-tau-bench roles.' || kind
        END
    FROM records

    UNION ALL
    SELECT 'agent-claude-code ' || unnest(
        CASE
            WHEN type = 'tool.called' THEN ['tool_use']
            WHEN type = 'tool.returned' AND is_error THEN ['tool_result', 'tool_error']
            WHEN type = 'tool.returned' THEN ['tool_result']
            WHEN type LIKE 'message.%' AND metadata ->> '$.block' = 'text' THEN ['text_blocks']
            ELSE []
        END)
    FROM sourced
    WHERE source = 'claude-code'

    UNION ALL
    SELECT 'agent-tau-bench ' || unnest(
        CASE
            WHEN type = 'tool.called' THEN ['tool_calls']
            WHEN type = 'tool.returned' AND is_error THEN ['tool_errors']
            WHEN type = 'session.started' THEN ['sessions']
            WHEN type = 'session.transitioned' AND to_status = 'completed' THEN ['reward1']
            ELSE []
        END)
    FROM sourced
    WHERE source = 'tau-bench'

    UNION ALL
    SELECT 'bounces ' || unnest(
        CASE
            WHEN type = 'delivery.failed' THEN [if(permanent, 'action_failed', 'action_delayed')]
            WHEN event_type = 'bounce.received' AND (data ->> '$.has_dsn')::BOOLEAN
                THEN ['mails', 'mails_with_dsn']
            WHEN event_type = 'bounce.received' THEN ['mails']
            ELSE []
        END)
    FROM sourced
    WHERE source IN ('mail', 'mailbox')
)
SELECT name, count(*) AS n
FROM names
GROUP BY name
ORDER BY name
