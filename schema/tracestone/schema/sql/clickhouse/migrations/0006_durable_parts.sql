-- not blocking: changes settings of tables
-- What leaves the write-ahead log, or Postgres' outbox, must be on the disk, not only in the system's cache: without
-- these settings a crash of the machine takes what was inserted in the half minute before (docs/durability.md).
-- Merged parts too: the parts they replace may be removed at once.

ALTER TABLE span_rows MODIFY SETTING
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

ALTER TABLE trace_slices MODIFY SETTING
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

ALTER TABLE trace_touches MODIFY SETTING
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

ALTER TABLE trace_rows MODIFY SETTING
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

ALTER TABLE assessment_rows MODIFY SETTING
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

ALTER TABLE experiment_rows MODIFY SETTING
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;
