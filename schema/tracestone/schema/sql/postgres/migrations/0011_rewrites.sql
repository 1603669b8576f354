-- not blocking, pre: work that rewrites stored spans slice by slice, and how far it is.

-- One is worked on at a time, by whoever holds the lock of `lock` in queries/rewrites.sql; what a process that died left
-- unfinished goes on at its position. position: the last slice that is done, {"experiment_id", "slice"}; {} at first.
CREATE TABLE tracestone.rewrites (
    rewrite_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    parameters jsonb NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    position jsonb NOT NULL DEFAULT '{}',
    spans_total bigint NOT NULL DEFAULT 0,
    spans_done bigint NOT NULL DEFAULT 0,
    spans_changed bigint NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,
    error text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX rewrites_unfinished ON tracestone.rewrites (kind, parameters) WHERE state IN ('waiting', 'running');
