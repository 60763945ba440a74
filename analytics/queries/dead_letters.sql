-- dead_letters: one row per letter. The first resolving or discarding is final: what comes after it
-- changes nothing. A letter parked again shows its latest parking and its highest count.
CREATE OR REPLACE TEMP VIEW dead_letters AS
WITH seen AS (
    SELECT
        *,
        CASE type
            WHEN 'dead_letter.resolved' THEN 'resolved'
            WHEN 'dead_letter.discarded' THEN 'discarded'
        END AS settling,
        min(CASE WHEN type IN ('dead_letter.resolved', 'dead_letter.discarded') THEN sequence END)
            OVER (PARTITION BY partition, letter) AS settled_sequence
    FROM events
    WHERE
        type IN (
            'dead_letter.parked',
            'dead_letter.replayed',
            'dead_letter.resolved',
            'dead_letter.discarded'
        )
        AND letter IS NOT NULL
),
folded AS (
    SELECT
        letter,
        partition,
        arg_max(
            {
                'reason': reason,
                'recipient': recipient,
                'text': "text",
                'reply_to': reply_to,
                'origin': origin,
                'traceback': traceback
            },
            sequence
        ) FILTER (type = 'dead_letter.parked') AS parking,
        arg_min(conversation, sequence) AS conversation,
        arg_max("group", sequence) AS consumer_group,
        coalesce(arg_min(settling, sequence), 'parked') AS status,
        arg_max(error, sequence) AS error,
        coalesce(greatest(max(attempts), max(attempt)), 0) AS attempts,
        count(*) FILTER (type = 'dead_letter.replayed') AS replay_count,
        arg_min(occurred_at, sequence) AS parked_at,
        arg_min(occurred_at, sequence) FILTER (settling IS NOT NULL) AS settled_at
    FROM seen
    WHERE settled_sequence IS NULL OR sequence <= settled_sequence
    GROUP BY letter, partition
)
SELECT
    letter,
    conversation,
    consumer_group,
    status,
    parking.reason AS reason,
    error,
    attempts,
    replay_count,
    parked_at,
    settled_at,
    parking.recipient AS recipient,
    parking."text" AS "text",
    parking.reply_to AS reply_to,
    parking.origin AS origin,
    parking.traceback AS traceback,
    partition
FROM folded;
