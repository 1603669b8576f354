-- not blocking: an index that lets a watcher skip the parts of trace_rows in which nothing was written lately.
-- Merged parts hold no recent version, so their granules are skipped whole. Parts written before are read as they were.
ALTER TABLE trace_rows ADD INDEX IF NOT EXISTS written version TYPE minmax GRANULARITY 16;
