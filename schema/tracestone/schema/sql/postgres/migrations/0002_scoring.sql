-- not blocking, pre: scorers with their versions, online configurations, their progress, and the scoring queue.

-- A name, and the lock under which its next version is numbered.
CREATE TABLE tracestone.scorers (
    name text PRIMARY KEY CHECK (char_length(name) BETWEEN 1 AND 100),
    created_at_ms bigint NOT NULL
);

-- Append-only: a row never changes, so a verdict can always be traced to what was asked.
CREATE TABLE tracestone.scorer_versions (
    scorer_name text NOT NULL REFERENCES tracestone.scorers,
    version integer NOT NULL CHECK (version >= 1),
    kind text NOT NULL,
    parameters jsonb NOT NULL,
    digest text NOT NULL,
    created_at_ms bigint NOT NULL,
    PRIMARY KEY (scorer_name, version)
);

CREATE FUNCTION tracestone.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END
$$;

CREATE TRIGGER scorer_versions_append_only BEFORE UPDATE OR DELETE ON tracestone.scorer_versions
    FOR EACH ROW EXECUTE FUNCTION tracestone.refuse_change();

-- One configuration of a scorer per experiment; a missing experiment_id stands for every experiment without one,
-- a missing scorer_version for the latest.
CREATE TABLE tracestone.online_configs (
    config_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scorer_name text NOT NULL REFERENCES tracestone.scorers,
    scorer_version integer,
    experiment_id integer REFERENCES tracestone.experiments,
    sample_rate double precision NOT NULL CHECK (sample_rate >= 0 AND sample_rate <= 1),
    filter text NOT NULL,
    salt text NOT NULL,
    updated_at_ms bigint NOT NULL,
    FOREIGN KEY (scorer_name, scorer_version) REFERENCES tracestone.scorer_versions,
    UNIQUE NULLS NOT DISTINCT (scorer_name, experiment_id)
);

-- How far a look at the traces has come, as (due time in ns, trace id). The row's lock is the watcher's lease.
CREATE TABLE tracestone.scoring_progress (
    config_id bigint NOT NULL REFERENCES tracestone.online_configs ON DELETE CASCADE,
    look text NOT NULL CHECK (look IN ('prompt', 'sweep')),
    due_ns bigint NOT NULL,
    trace_id text NOT NULL DEFAULT '',
    error text NOT NULL DEFAULT '',
    PRIMARY KEY (config_id, look)
);

-- A job is ready when available_at has passed: claiming moves it ahead by the lease, a retry by the backoff.
-- lease is the claimer's token; only its holder can finish, retry or extend the job.
CREATE TABLE tracestone.scoring_jobs (
    job_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scorer_name text NOT NULL,
    scorer_version integer NOT NULL,
    experiment_id integer NOT NULL,
    trace_id text NOT NULL,
    probability double precision NOT NULL CHECK (probability > 0 AND probability <= 1),
    available_at timestamptz NOT NULL DEFAULT now(),
    lease uuid,
    deliveries integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    calls integer NOT NULL DEFAULT 0,
    cost_usd double precision,
    input_tokens bigint,
    output_tokens bigint,
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (scorer_name, scorer_version) REFERENCES tracestone.scorer_versions,
    UNIQUE (experiment_id, trace_id, scorer_name, scorer_version)
);

CREATE INDEX scoring_jobs_ready ON tracestone.scoring_jobs (available_at, job_id);
