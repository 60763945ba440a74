-- title: Sessions by status and duration
-- description: How many sessions are in each status, by how long they took: until they ended or, where
--     they have not, until they were last active.
-- parameter: since time = none: only sessions started from this time on
-- parameter: until time = none: only sessions started before this time
-- parameter: chat text = none: only this conversation
-- parameter: project text = none: only this project
-- plot: bars x=duration y=sessions by=status unit=sessions stacked
SELECT
    CASE
        WHEN duration_s < 10 THEN 'under 10 s'
        WHEN duration_s < 60 THEN '10 s to 1 min'
        WHEN duration_s < 600 THEN '1 to 10 min'
        WHEN duration_s < 3600 THEN '10 min to 1 h'
        WHEN duration_s < 86400 THEN '1 to 24 h'
        ELSE 'over a day'
    END AS duration,
    status,
    count(*) AS sessions,
    round(median(duration_s), 1) AS median_s,
    sum(message_count)::BIGINT AS messages,
    sum(tool_call_count)::BIGINT AS tool_calls
FROM sessions
WHERE
    ($since IS NULL OR started_at >= $since)
    AND ($until IS NULL OR started_at < $until)
    AND ($chat IS NULL OR conversation = $chat)
    AND ($project IS NULL OR project = $project)
GROUP BY ALL
ORDER BY min(duration_s), status
