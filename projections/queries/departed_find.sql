-- What is known of some keys of a build; `keys` is a JSON list.
SELECT key, number, body, indexed
FROM departed
WHERE build = :build AND key IN (SELECT value FROM json_each(:keys));
