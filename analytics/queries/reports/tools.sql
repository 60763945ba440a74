-- title: Tool calls and errors by tool
-- description: How often each tool was called, how often it failed, how long it took.
-- parameter: since time = none: only calls from this time on
-- parameter: until time = none: only calls before this time
-- parameter: chat text = none: only this conversation
-- parameter: session text = none: only this session
-- plot: rows x=tool y=ok,errors,pending unit=calls stacked
SELECT
    coalesce("name", '(unnamed)') AS tool,
    count(*) AS calls,
    count(*) FILTER (status = 'ok') AS ok,
    count(*) FILTER (status = 'error') AS errors,
    count(*) FILTER (status = 'pending') AS pending,
    round(100 * errors / calls, 1) AS error_percent,
    round(quantile_cont(duration_ms, 0.5)) AS p50_ms,
    round(quantile_cont(duration_ms, 0.95)) AS p95_ms
FROM tool_calls
WHERE
    ($since IS NULL OR coalesce(called_at, returned_at) >= $since)
    AND ($until IS NULL OR coalesce(called_at, returned_at) < $until)
    AND ($chat IS NULL OR conversation = $chat)
    AND ($session IS NULL OR session = $session)
GROUP BY tool
ORDER BY calls DESC, tool
