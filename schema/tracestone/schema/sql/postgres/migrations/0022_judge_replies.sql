-- not blocking, pre: what models answered judges, so that the same question is paid once.

-- digest is the SHA-256 of all that a call is made of; see scoring/calls/cached.py.
CREATE TABLE tracestone.judge_replies (
    digest bytea PRIMARY KEY,
    reply text NOT NULL,
    model text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX judge_replies_by_time ON tracestone.judge_replies (created_at);
