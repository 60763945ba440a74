-- Sessions by status: how many, what their tools did, how long they took at the median.
SELECT
    status,
    count(*) AS sessions,
    sum(tool_call_count)::BIGINT AS tool_calls,
    sum(tool_error_count)::BIGINT AS tool_errors,
    median(duration_s) AS median_duration_s
FROM sessions
GROUP BY status
ORDER BY sessions DESC, status
