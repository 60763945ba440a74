-- Note a departure, in place of an earlier one of the same key.
INSERT INTO departed (build, key, number, body, is_feed, indexed)
VALUES (:build, :key, :number, :body, :is_feed, :indexed)
ON CONFLICT (build, key) DO UPDATE
SET number = excluded.number, body = excluded.body, indexed = excluded.indexed;
