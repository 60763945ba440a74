-- Documents and feeds that left Redis. `number` counts departures of a build; that of a document is
-- the one it left with last. `body` is the document as it was, null for one that was deleted; of a
-- feed it says what it held. `indexed` is a JSON list of [index, score].
CREATE TABLE IF NOT EXISTS build (
    id INTEGER PRIMARY KEY,
    partition INTEGER NOT NULL,
    model TEXT NOT NULL,
    number INTEGER NOT NULL DEFAULT 0,
    UNIQUE (partition, model)
);
CREATE TABLE IF NOT EXISTS departed (
    build INTEGER NOT NULL,
    key TEXT NOT NULL,
    number INTEGER NOT NULL,
    body BLOB,
    is_feed INTEGER NOT NULL,
    indexed TEXT NOT NULL,
    PRIMARY KEY (build, key)
) WITHOUT ROWID;
-- Where a document is found for as long as it is not back; keys of one score in the order of bytes.
CREATE TABLE IF NOT EXISTS indexed (
    build INTEGER NOT NULL,
    name TEXT NOT NULL,
    score REAL NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (build, name, score, key)
) WITHOUT ROWID;
