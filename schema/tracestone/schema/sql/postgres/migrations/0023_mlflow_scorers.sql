-- not blocking, pre: scorers as MLflow's client registers them, and which scorer of ours runs each.

CREATE TABLE tracestone.mlflow_scorers (
    scorer_id text PRIMARY KEY,
    experiment_id integer NOT NULL REFERENCES tracestone.experiments,
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 250),
    scorer_name text NOT NULL UNIQUE REFERENCES tracestone.scorers,
    filter_string text NOT NULL DEFAULT '',
    UNIQUE (experiment_id, name)
);

-- serialized is what the client sent, given back as it was.
CREATE TABLE tracestone.mlflow_scorer_versions (
    scorer_id text NOT NULL REFERENCES tracestone.mlflow_scorers ON DELETE CASCADE,
    version integer NOT NULL CHECK (version >= 1),
    serialized text NOT NULL CHECK (char_length(serialized) <= 1000000),
    scorer_version integer NOT NULL,
    created_at_ms bigint NOT NULL,
    PRIMARY KEY (scorer_id, version)
);
