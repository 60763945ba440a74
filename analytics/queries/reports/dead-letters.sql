-- title: Dead letters by reason
-- description: Why entries were given up on, and what became of them since.
-- parameter: since time = none: only letters parked from this time on
-- parameter: until time = none: only letters parked before this time
-- parameter: chat text = none: only this conversation
-- parameter: group text = none: only what this consumer group parked
-- plot: rows x=reason y=parked,replaying,resolved,discarded unit=letters stacked
SELECT
    coalesce(reason, '(none given)') AS reason,
    count(*) AS letters,
    count(*) FILTER (status = 'parked') AS parked,
    count(*) FILTER (status = 'replaying') AS replaying,
    count(*) FILTER (status = 'resolved') AS resolved,
    count(*) FILTER (status = 'discarded') AS discarded,
    max(attempts) AS most_attempts,
    min(parked_at) AS first_parked_at,
    max(parked_at) AS last_parked_at
FROM dead_letters
WHERE
    ($since IS NULL OR parked_at >= $since)
    AND ($until IS NULL OR parked_at < $until)
    AND ($chat IS NULL OR conversation = $chat)
    AND ($group IS NULL OR consumer_group = $group)
GROUP BY ALL
ORDER BY letters DESC, reason
