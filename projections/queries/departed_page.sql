-- A page of an index, by (score, key) from the highest down, below (score, key) and not below `lowest`.
SELECT indexed.key, indexed.score, departed.body
FROM indexed
JOIN departed ON departed.build = indexed.build AND departed.key = indexed.key
WHERE indexed.build = :build
    AND indexed.name = :name
    AND indexed.score >= :lowest
    AND (indexed.score, indexed.key) < (:score, :key)
ORDER BY indexed.score DESC, indexed.key DESC
LIMIT :limit;
