-- not blocking, pre: API keys.

-- In the order in which changes become visible: whoever changes a key takes the lock of `lock_changes` first.
CREATE SEQUENCE tracestone.api_key_changes;

-- Of a key only the hash of its secret is kept. A row is never removed: that there ever was one means that keys are
-- demanded. Without experiment_ids a key is good for all experiments.
CREATE TABLE tracestone.api_keys (
    key_id text PRIMARY KEY CHECK (key_id ~ '^[0-9a-f]{16}$'),
    secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32),
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    scopes text[] NOT NULL CHECK (scopes <> '{}' AND scopes <@ ARRAY['ingest', 'read', 'write', 'admin']),
    experiment_ids integer[] CHECK (experiment_ids <> '{}'),
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint,
    revoked_at_ms bigint,
    last_used_at_ms bigint,
    change bigint NOT NULL
);

CREATE INDEX api_keys_change ON tracestone.api_keys (change);
