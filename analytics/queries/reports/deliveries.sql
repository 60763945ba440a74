-- title: Delivery success by platform
-- description: What became of outbound messages. Success is the share of those that were sent among
--     those that are decided, sent or failed. The platform is the one that the events name, else the
--     first part of the conversation.
-- parameter: since time = none: only messages queued or first tried from this time on
-- parameter: until time = none: only messages queued or first tried before this time
-- parameter: chat text = none: only this conversation
-- plot: rows x=platform y=success_percent unit=%
SELECT
    coalesce(platform, split_part(conversation, ':', 1)) AS platform,
    count(*) AS messages,
    count(*) FILTER (status = 'sent') AS sent,
    count(*) FILTER (status = 'failed') AS failed,
    count(*) FILTER (status = 'retrying') AS retrying,
    count(*) FILTER (status = 'queued') AS queued,
    round(100 * sent / nullif(sent + failed, 0), 1) AS success_percent,
    sum(failure_count)::BIGINT AS failed_attempts,
    round(quantile_cont(epoch_us(sent_at - queued_at), 0.5) / 1e6, 3) AS p50_s,
    round(quantile_cont(epoch_us(sent_at - queued_at), 0.95) / 1e6, 3) AS p95_s
FROM deliveries
WHERE
    ($since IS NULL OR coalesce(queued_at, sent_at, last_failed_at) >= $since)
    AND ($until IS NULL OR coalesce(queued_at, sent_at, last_failed_at) < $until)
    AND ($chat IS NULL OR conversation = $chat)
GROUP BY ALL
ORDER BY messages DESC, platform
