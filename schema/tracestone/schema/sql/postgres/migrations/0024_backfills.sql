-- not blocking, pre: scoring of what is stored already, in the order of the targets' times.

-- (due_ns, key) is how far it has come; chosen counts the targets that were drawn, enqueued those that had no verdict yet.
CREATE TABLE tracestone.backfills (
    backfill_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scorer_name text NOT NULL,
    scorer_version integer NOT NULL,
    experiment_id integer REFERENCES tracestone.experiments,
    target_type text NOT NULL CHECK (target_type IN ('span', 'trace', 'session')),
    from_ns bigint NOT NULL,
    to_ns bigint NOT NULL CHECK (to_ns > from_ns),
    filter text NOT NULL,
    sample_rate double precision NOT NULL CHECK (sample_rate > 0 AND sample_rate <= 1),
    salt text NOT NULL,
    per_minute integer CHECK (per_minute >= 1),
    targets bigint NOT NULL,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'done', 'cancelled')),
    due_ns bigint NOT NULL,
    key text NOT NULL DEFAULT '',
    chosen bigint NOT NULL DEFAULT 0,
    enqueued bigint NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT now(),
    error text NOT NULL DEFAULT '',
    created_at_ms bigint NOT NULL,
    FOREIGN KEY (scorer_name, scorer_version) REFERENCES tracestone.scorer_versions
);
