-- The views, each with its columns in one line.
SELECT table_name AS view, string_agg(column_name, ' ' ORDER BY column_index) AS columns
FROM duckdb_columns()
WHERE NOT internal AND table_name NOT IN ('archive', 'tail')
GROUP BY view
ORDER BY view
