-- blocking, pre: the assessments of a trace are read and counted in its experiment.

CREATE INDEX assessments_of_trace ON tracestone.assessments (trace_id, experiment_id, created_at_ms)
    WHERE trace_id <> '';
DROP INDEX tracestone.assessments_by_trace;
