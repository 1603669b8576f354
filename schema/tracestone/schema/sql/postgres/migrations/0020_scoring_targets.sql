-- blocking, pre: spans and sessions as targets of scorers, strata and priorities, and which state a verdict is about.

-- strata is a list of {name, filter, sample_rate}; the first whose filter holds gives the rate.
ALTER TABLE tracestone.online_configs
    ADD COLUMN target_type text NOT NULL DEFAULT 'trace' CHECK (target_type IN ('span', 'trace', 'session')),
    ADD COLUMN strata jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN idle_seconds double precision NOT NULL DEFAULT 300 CHECK (idle_seconds >= 0),
    ADD COLUMN priority integer NOT NULL DEFAULT 0;

-- seen_ns is when something of the target last arrived, as known when it was chosen: a later one is another state.
ALTER TABLE tracestone.scoring_jobs
    ADD COLUMN target_type text NOT NULL DEFAULT 'trace',
    ADD COLUMN span_id text NOT NULL DEFAULT '',
    ADD COLUMN session_id text NOT NULL DEFAULT '',
    ADD COLUMN seen_ns bigint NOT NULL DEFAULT 0,
    ADD COLUMN stratum text NOT NULL DEFAULT '',
    ADD COLUMN priority integer NOT NULL DEFAULT 0,
    DROP CONSTRAINT scoring_jobs_experiment_id_trace_id_scorer_name_scorer_vers_key;

-- A session id is as long as its sender likes, hence md5.
CREATE UNIQUE INDEX scoring_jobs_one_target ON tracestone.scoring_jobs
    (experiment_id, trace_id, span_id, md5(session_id), scorer_name, scorer_version);
CREATE INDEX scoring_jobs_by_priority ON tracestone.scoring_jobs (priority DESC, available_at, job_id);

-- Of a scorer's verdict: the state of the target that it is about, and a digest of what the scorer was given.
ALTER TABLE tracestone.assessments
    ADD COLUMN target_seen_ns bigint,
    ADD COLUMN input_digest text NOT NULL DEFAULT '';
