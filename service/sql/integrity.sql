-- Every event once: as many places as events, and no partition with a hole.
WITH ranges AS (
    SELECT partition, count(*) AS events, max(sequence) - min(sequence) + 1 AS span
    FROM events
    GROUP BY partition
)
SELECT
    (SELECT count(*) FROM events) AS events,
    (SELECT count(*) FROM (SELECT DISTINCT partition, sequence FROM events)) AS distinct_places,
    (SELECT coalesce(sum(span - events), 0) FROM ranges)::BIGINT AS gaps
