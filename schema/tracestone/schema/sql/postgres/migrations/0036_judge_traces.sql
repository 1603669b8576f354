-- not blocking, pre: the traces of judges' own calls, on their way to the write-ahead log.

-- spans is an OTLP request with the spans of one attempt. A row goes once the log has it; one that is written or handed over
-- again replaces itself, for its ids follow from the attempt.
CREATE TABLE tracestone.judge_traces (
    trace_id text PRIMARY KEY,
    spans bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX judge_traces_by_time ON tracestone.judge_traces (created_at);
