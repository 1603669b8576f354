-- name: create_history
-- The table of what was applied.
CREATE TABLE IF NOT EXISTS schema_migrations (
    version UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree ORDER BY version

-- name: history
-- What was applied, with the checksum of the file that was.
SELECT version, any(checksum) AS checksum FROM schema_migrations GROUP BY version ORDER BY version

-- name: record
-- A migration is in.
INSERT INTO schema_migrations (version, name, checksum) VALUES ({version:UInt32}, {name:String}, {checksum:String})

-- name: attribute_maps
-- The maps of attributes that were in force, the one that is now first.
SELECT version, checksum FROM attribute_maps ORDER BY applied_at DESC, version DESC

-- name: record_attribute_map
-- The views follow this map now.
INSERT INTO attribute_maps (version, checksum) VALUES ({version:UInt32}, {checksum:String})
