-- dead_letters: one row per letter. The first resolving or discarding is final: what comes after it
-- changes nothing. A letter parked again shows its latest parking and its highest count. `failures`
-- is JSON text, the attempts that the latest parking lists: failures ->> '$[0].error'.
CREATE OR REPLACE TEMP VIEW dead_letters AS
WITH seen AS (
    SELECT
        *,
        CASE type
            WHEN 'dead_letter.resolved' THEN 'resolved'
            WHEN 'dead_letter.discarded' THEN 'discarded'
        END AS settling,
        min(CASE WHEN type IN ('dead_letter.resolved', 'dead_letter.discarded') THEN sequence END)
            OVER (PARTITION BY partition, letter) AS settled_sequence,
        lag(type) OVER (PARTITION BY partition, letter ORDER BY sequence) AS previous_type
    FROM events
    WHERE
        type IN (
            'dead_letter.parked',
            'dead_letter.replay_requested',
            'dead_letter.replayed',
            'dead_letter.resolved',
            'dead_letter.discarded'
        )
        AND letter IS NOT NULL
),
folded AS (
    -- arg_max passes over nulls: what a later parking leaves out stays known.
    SELECT
        letter,
        partition,
        arg_min(conversation, sequence) AS conversation,
        arg_max("group", sequence) AS consumer_group,
        CASE
            WHEN max(settled_sequence) IS NOT NULL THEN arg_min(settling, sequence)
            WHEN arg_max(type, sequence) = 'dead_letter.replay_requested' THEN 'replaying'
            ELSE 'parked'
        END AS status,
        arg_max(reason, sequence) FILTER (type = 'dead_letter.parked') AS reason,
        arg_max(error, sequence) AS error,
        coalesce(greatest(max(attempts), max(attempt)), 0) AS attempts,
        count(*) FILTER (
            type = 'dead_letter.replay_requested'
            -- Replayed without having been asked to.
            OR (
                type = 'dead_letter.replayed'
                AND previous_type IS DISTINCT FROM 'dead_letter.replay_requested'
            )
        ) AS replay_count,
        arg_min(occurred_at, sequence) AS parked_at,
        arg_min(occurred_at, sequence) FILTER (settling IS NOT NULL) AS settled_at,
        arg_max(recipient, sequence) FILTER (type = 'dead_letter.parked') AS recipient,
        arg_max("text", sequence) FILTER (type = 'dead_letter.parked') AS "text",
        arg_max(reply_to, sequence) FILTER (type = 'dead_letter.parked') AS reply_to,
        arg_max(origin, sequence) FILTER (type = 'dead_letter.parked') AS origin,
        arg_max(traceback, sequence) FILTER (type = 'dead_letter.parked') AS traceback,
        arg_max(failures, sequence) FILTER (type = 'dead_letter.parked') AS failures
    FROM seen
    WHERE settled_sequence IS NULL OR sequence <= settled_sequence
    GROUP BY letter, partition
)
SELECT
    letter,
    conversation,
    consumer_group,
    status,
    reason,
    error,
    attempts,
    replay_count,
    parked_at,
    settled_at,
    recipient,
    "text",
    reply_to,
    origin,
    traceback,
    failures,
    partition
FROM folded;
