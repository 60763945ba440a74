-- sessions: one row per session, folded in the order of the log as eventlog/session.py does.
-- A session is there once a session.* event says so, which gives the status (active, where it is
-- neither a start nor a transition); then the first terminal status is final, and nothing goes back
-- to pending.
CREATE OR REPLACE TEMP VIEW sessions AS
WITH seen AS (
    SELECT
        *,
        CASE type WHEN 'session.started' THEN status WHEN 'session.transitioned' THEN to_status END
            AS target,
        type = 'session.started' AS is_start,
        type IN ('session.started', 'session.transitioned', 'session.touched') AS is_change
    FROM events
    WHERE session IS NOT NULL
),
folded AS (
    SELECT
        session,
        partition,
        arg_min(conversation, sequence) FILTER (is_change) AS conversation,
        arg_min(coalesce(target, 'active'), sequence) FILTER (is_change) AS first_status,
        arg_max(target, sequence) FILTER (target <> 'pending') AS last_status,
        arg_min(target, sequence) FILTER (target IN ('completed', 'failed')) AS final_status,
        arg_min(
            {'is_start': is_start, 'mode': "mode", 'at': occurred_at}, sequence
        ) FILTER (is_change) AS first_change,
        arg_min(platform, sequence) FILTER (is_start) AS platform,
        arg_min(project, sequence) FILTER (is_start) AS project,
        arg_min("user", sequence) FILTER (is_start) AS "user",
        arg_min(agent, sequence) FILTER (is_start) AS agent,
        arg_min(branch_name, sequence) FILTER (is_start) AS branch_name,
        arg_min("text", sequence) FILTER (is_start) AS "text",
        arg_max(owner, sequence) FILTER (is_change) AS owner,
        arg_min(occurred_at, sequence) AS first_seen_at,
        -- Falling asleep is no activity.
        greatest(
            first_seen_at,
            coalesce(max(occurred_at) FILTER (to_status IS DISTINCT FROM 'dormant'), first_seen_at)
        ) AS last_activity_at,
        arg_min(occurred_at, sequence) FILTER (target IN ('completed', 'failed')) AS ended_at,
        count(*) FILTER (type IN ('message.received', 'message.sent')) AS message_count,
        count(*) FILTER (type = 'tool.called') AS tool_call_count,
        count(*) FILTER (type = 'tool.returned' AND is_error) AS tool_error_count,
        count(*) FILTER (is_change) AS version,
        count(*) AS event_count
    FROM seen
    GROUP BY session, partition
    HAVING count(*) FILTER (is_change) > 0
),
timed AS (
    -- A start counts as such where no other change of the session comes before it.
    SELECT
        *,
        CASE WHEN first_change.is_start THEN first_change.at ELSE first_seen_at END AS started_at,
        CASE WHEN first_change.is_start THEN first_change.mode ELSE 'chat' END AS "mode"
    FROM folded
)
SELECT
    session,
    conversation,
    coalesce(final_status, last_status, first_status) AS status,
    "mode",
    platform,
    project,
    "user",
    agent,
    branch_name,
    "text",
    owner,
    started_at,
    last_activity_at,
    ended_at,
    epoch_ms(coalesce(ended_at, last_activity_at) - started_at) / 1000 AS duration_s,
    message_count,
    tool_call_count,
    tool_error_count,
    version,
    event_count,
    partition
FROM timed;
