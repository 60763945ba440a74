-- bridge_events: whatever else a bridge recorded; `data` is JSON text: data ->> '$.key'.
CREATE OR REPLACE TEMP VIEW bridge_events AS
SELECT
    occurred_at,
    event_type,
    conversation,
    session,
    project,
    data,
    id,
    appended_at,
    partition,
    sequence
FROM events
WHERE type = 'bridge.event';
