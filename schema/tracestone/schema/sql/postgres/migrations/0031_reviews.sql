-- not blocking, pre: targets that wait for a person's answer.

-- Who took one has it until taken_until; taken_seen_ns is the state of the target that was shown.
CREATE TABLE tracestone.reviews (
    review_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scorer_name text NOT NULL,
    scorer_version integer NOT NULL,
    target_type text NOT NULL CHECK (target_type IN ('span', 'trace', 'session')),
    experiment_id integer NOT NULL,
    trace_id text NOT NULL,
    span_id text NOT NULL,
    session_id text NOT NULL,
    seen_ns bigint NOT NULL,
    probability double precision NOT NULL CHECK (probability > 0 AND probability <= 1),
    stratum text NOT NULL,
    priority integer NOT NULL,
    config_id bigint,
    taken_by text NOT NULL DEFAULT '',
    taken_until timestamptz,
    taken_seen_ns bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (scorer_name, scorer_version) REFERENCES tracestone.scorer_versions
);

-- A session id is as long as its sender likes, hence md5.
CREATE UNIQUE INDEX reviews_one_target ON tracestone.reviews
    (experiment_id, trace_id, span_id, md5(session_id), scorer_name, scorer_version);
CREATE INDEX reviews_by_priority ON tracestone.reviews (priority DESC, review_id);
CREATE INDEX reviews_by_scorer ON tracestone.reviews (scorer_name);
