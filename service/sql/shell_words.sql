-- What the shell completes: columns of the views, keywords, functions.
SELECT 'column' AS kind, table_name AS view, column_name AS word, column_index AS place
FROM duckdb_columns()
WHERE NOT internal AND table_name NOT IN ('archive', 'tail')

UNION ALL
SELECT 'keyword', NULL, upper(keyword_name), 0
FROM duckdb_keywords()
WHERE keyword_category <> 'unreserved' OR keyword_name IN ('by', 'first', 'last', 'nulls', 'over')

UNION ALL
SELECT DISTINCT 'function', NULL, function_name, 0
FROM duckdb_functions()
WHERE
    function_type IN ('scalar', 'aggregate', 'macro')
    AND regexp_full_match(function_name, '[a-z][a-z0-9_]*')
ORDER BY kind, view, place, word
