-- name: get
-- One experiment by id, deleted ones too.
SELECT * FROM tracestone.experiments WHERE experiment_id = $1

-- name: by_name
-- One experiment by name, deleted ones too.
SELECT * FROM tracestone.experiments WHERE name = $1

-- name: lock
-- One experiment that is about to be changed; the row stays locked until the transaction ends.
SELECT * FROM tracestone.experiments WHERE experiment_id = $1 FOR UPDATE

-- name: create
-- A new experiment; no row comes back when the name is taken.
INSERT INTO tracestone.experiments (name, artifact_location, creation_time_ms, last_update_time_ms, tags)
VALUES ($1, NULLIF($2, ''), $3, $3, $4)
ON CONFLICT (name) DO NOTHING
RETURNING *

-- name: create_within
-- The same for a name that telemetry gave: no row comes back either when there are $3 experiments already.
INSERT INTO tracestone.experiments (name, creation_time_ms, last_update_time_ms)
SELECT $1, $2, $2 WHERE (SELECT count(*) FROM tracestone.experiments) < $3
ON CONFLICT (name) DO NOTHING
RETURNING experiment_id

-- name: make_judges
-- The experiment of judges' own calls, $1, with its name $2 unless an older one has taken that.
INSERT INTO tracestone.experiments (experiment_id, name, creation_time_ms, last_update_time_ms)
SELECT $1::integer, named.name, $3, $3
FROM (SELECT CASE
    WHEN EXISTS (SELECT FROM tracestone.experiments AS other WHERE other.name = $2) THEN $2 || ' ' || $1::integer::text
    ELSE $2 END AS name) AS named
ON CONFLICT DO NOTHING

-- name: id_by_name
-- The id behind a name, for telemetry.
SELECT experiment_id FROM tracestone.experiments WHERE name = $1

-- name: rename
-- A new name.
UPDATE tracestone.experiments SET name = $2, last_update_time_ms = $3 WHERE experiment_id = $1

-- name: set_stage
-- Into the bin or out of it.
UPDATE tracestone.experiments SET lifecycle_stage = $2, last_update_time_ms = $3 WHERE experiment_id = $1

-- name: set_tags
-- All tags at once; the caller holds the row's lock.
UPDATE tracestone.experiments SET tags = $2, last_update_time_ms = $3 WHERE experiment_id = $1

-- name: search
-- Experiments of the stages $1 for which every comparison of the JSON list $2 holds, sorted by up to three keys
-- ($3 fields, $4 directions as 1 and -1), with limit $5 and offset $6. A missing tag fails all but IS NULL.
SELECT e.*
FROM tracestone.experiments AS e
WHERE e.lifecycle_stage = ANY ($1::text[])
  AND NOT EXISTS (
    SELECT
    FROM jsonb_to_recordset($2::jsonb) AS c (entity text, key text, operator text, values jsonb, numeric boolean)
    CROSS JOIN LATERAL (SELECT
        CASE WHEN c.entity = 'tag' THEN e.tags ->> c.key
             WHEN c.key = 'name' THEN e.name
             WHEN c.key = 'experiment_id' THEN e.experiment_id::text END AS found,
        CASE WHEN c.key = 'creation_time' THEN e.creation_time_ms
             WHEN c.key = 'last_update_time' THEN e.last_update_time_ms END AS moment,
        c.values ->> 0 AS wanted
    ) AS side
    WHERE NOT COALESCE(CASE
        WHEN c.numeric THEN CASE c.operator
            WHEN '=' THEN side.moment = side.wanted::numeric
            WHEN '!=' THEN side.moment <> side.wanted::numeric
            WHEN '>' THEN side.moment > side.wanted::numeric
            WHEN '>=' THEN side.moment >= side.wanted::numeric
            WHEN '<' THEN side.moment < side.wanted::numeric
            WHEN '<=' THEN side.moment <= side.wanted::numeric END
        ELSE CASE c.operator
            WHEN '=' THEN side.found = side.wanted
            WHEN '!=' THEN side.found <> side.wanted
            WHEN 'LIKE' THEN side.found LIKE side.wanted ESCAPE ''
            WHEN 'ILIKE' THEN side.found ILIKE side.wanted ESCAPE ''
            WHEN 'IN' THEN c.values @> to_jsonb(side.found)
            WHEN 'NOT IN' THEN NOT c.values @> to_jsonb(side.found)
            WHEN 'IS NULL' THEN side.found IS NULL
            WHEN 'IS NOT NULL' THEN side.found IS NOT NULL END
        END, false))
ORDER BY
    CASE WHEN ($3::text[])[1] = 'name' AND ($4::int[])[1] > 0 THEN e.name END,
    CASE WHEN ($3::text[])[1] = 'name' AND ($4::int[])[1] < 0 THEN e.name END DESC,
    ($4::int[])[1] * CASE ($3::text[])[1] WHEN 'experiment_id' THEN e.experiment_id
        WHEN 'creation_time' THEN e.creation_time_ms WHEN 'last_update_time' THEN e.last_update_time_ms END,
    CASE WHEN ($3::text[])[2] = 'name' AND ($4::int[])[2] > 0 THEN e.name END,
    CASE WHEN ($3::text[])[2] = 'name' AND ($4::int[])[2] < 0 THEN e.name END DESC,
    ($4::int[])[2] * CASE ($3::text[])[2] WHEN 'experiment_id' THEN e.experiment_id
        WHEN 'creation_time' THEN e.creation_time_ms WHEN 'last_update_time' THEN e.last_update_time_ms END,
    CASE WHEN ($3::text[])[3] = 'name' AND ($4::int[])[3] > 0 THEN e.name END,
    CASE WHEN ($3::text[])[3] = 'name' AND ($4::int[])[3] < 0 THEN e.name END DESC,
    ($4::int[])[3] * CASE ($3::text[])[3] WHEN 'experiment_id' THEN e.experiment_id
        WHEN 'creation_time' THEN e.creation_time_ms WHEN 'last_update_time' THEN e.last_update_time_ms END,
    e.experiment_id
LIMIT $5 OFFSET $6
