-- not blocking, pre: jobs that were given up, to be replayed, and since when a job waits for a provider.

ALTER TABLE tracestone.scoring_jobs ADD COLUMN stalled_since timestamptz;

-- `job` is the row of scoring_jobs as it was, `assessment_id` the error that was recorded instead of a verdict.
CREATE TABLE tracestone.scoring_dead_jobs (
    dead_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scorer_name text NOT NULL,
    experiment_id integer NOT NULL,
    trace_id text NOT NULL,
    code text NOT NULL,
    message text NOT NULL,
    job jsonb NOT NULL,
    assessment_id text NOT NULL DEFAULT '',
    died_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX scoring_dead_jobs_by_scorer ON tracestone.scoring_dead_jobs (scorer_name, code);
CREATE INDEX scoring_dead_jobs_by_time ON tracestone.scoring_dead_jobs (died_at);
