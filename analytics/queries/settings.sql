-- What every connection starts with, each for a measured reason.
SET asof_loop_join_threshold = 0;          -- ASOF joins over Parquet picked a nested loop: 18.7 s, not 0.05
SET parquet_metadata_cache = true;         -- segments never change
SET TimeZone = 'UTC';                      -- times are naive UTC throughout
SET autoinstall_known_extensions = false;  -- nothing is fetched from the network
SET autoload_known_extensions = false;
SET python_enable_replacements = false;    -- a query sees views, not the program's variables
