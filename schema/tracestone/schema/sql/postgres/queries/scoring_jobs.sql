-- name: lease_look
-- Takes the progress of one look for this transaction, unless another watcher has it.
SELECT due_ns, trace_id, error FROM scoring_progress
WHERE config_id = $1 AND look = $2 FOR UPDATE SKIP LOCKED

-- name: advance_look
-- How far the look has come; committed together with the jobs it chose.
UPDATE scoring_progress SET due_ns = $3, trace_id = $4, error = '' WHERE config_id = $1 AND look = $2

-- name: begin_window
-- The version that the sweep's present window is accounted under: the one it was begun with, else $2.
INSERT INTO scoring_windows AS present (config_id, scorer_version) VALUES ($1, $2)
ON CONFLICT (config_id) DO UPDATE SET scorer_version = present.scorer_version
RETURNING scorer_version

-- name: end_window
-- The sweep is past the window; committed together with its progress.
DELETE FROM scoring_windows WHERE config_id = $1

-- name: fail_look
-- Why the last look did not come further.
UPDATE scoring_progress SET error = $3 WHERE config_id = $1 AND look = $2

-- name: latest_version
-- The version a configuration without a fixed one stands for now.
SELECT max(version) FROM scorer_versions WHERE scorer_name = $1

-- name: own_experiments
-- Experiments with a configuration of their own for a scorer; the one for all leaves them out.
SELECT experiment_id FROM online_configs WHERE scorer_name = $1 AND experiment_id IS NOT NULL

-- name: waiting
-- How many jobs wait, counted up to a bound.
SELECT count(*) FROM (SELECT 1 FROM scoring_jobs LIMIT $1) AS jobs

-- name: kind
-- What kind of scorer a version is.
SELECT kind FROM scorer_versions WHERE scorer_name = $1 AND version = $2

-- name: by_scorer
-- How many jobs each scorer has.
SELECT scorer_name, count(*) AS jobs FROM scoring_jobs GROUP BY scorer_name

-- name: enqueue
-- Jobs, or reviews by people, for chosen targets of kind $3, but for those of which this version has judged this state, or a later one, already.
-- A target that has a job gets no second one, and its job learns of the later state. All draws are nested, so the chance of
-- having been chosen at all is the greatest of those with which a target was chosen: jobs and verdicts learn of that too.
WITH chosen AS (
    SELECT * FROM unnest($5::integer[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::float8[], $11::text[])
        AS chosen (experiment_id, trace_id, span_id, session_id, seen_ns, probability, stratum)
), raised AS (
    UPDATE assessments a SET probability = chosen.probability
    FROM chosen
    WHERE a.trace_id = chosen.trace_id AND a.span_id = chosen.span_id
      AND md5(a.session_id) = md5(chosen.session_id) AND a.experiment_id = chosen.experiment_id
      AND a.scorer_name = $1 AND a.scorer_version = $2 AND a.scorer_name <> ''
      AND a.target_seen_ns >= chosen.seen_ns AND a.probability < chosen.probability
)
INSERT INTO /* queue */ AS job (
    scorer_name, scorer_version, target_type, priority,
    experiment_id, trace_id, span_id, session_id, seen_ns, probability, stratum, config_id
)
SELECT $1, $2, $3, $4,
    chosen.experiment_id, chosen.trace_id, chosen.span_id, chosen.session_id, chosen.seen_ns,
    chosen.probability, chosen.stratum, $12
FROM chosen
WHERE NOT EXISTS (
    SELECT 1 FROM assessments a
    WHERE a.trace_id = chosen.trace_id AND a.span_id = chosen.span_id
      AND md5(a.session_id) = md5(chosen.session_id) AND a.experiment_id = chosen.experiment_id
      AND a.scorer_name = $1 AND a.scorer_version = $2 AND a.scorer_name <> ''
      AND coalesce(a.target_seen_ns, 9223372036854775807) >= chosen.seen_ns
)
ON CONFLICT (experiment_id, trace_id, span_id, md5(session_id), scorer_name, scorer_version)
    DO UPDATE SET
        seen_ns = greatest(job.seen_ns, excluded.seen_ns), probability = greatest(job.probability, excluded.probability)
    WHERE job.seen_ns < excluded.seen_ns OR job.probability < excluded.probability
RETURNING xmax = 0 AS new

-- name: limited_configs
-- Configurations that bound how many of their jobs run at once.
SELECT config_id FROM online_configs WHERE concurrency IS NOT NULL

-- name: lock_limited
-- Those of them for which nobody else claims just now, with their bounds.
SELECT config_id, concurrency FROM online_configs WHERE concurrency IS NOT NULL
ORDER BY config_id FOR NO KEY UPDATE SKIP LOCKED

-- name: claim
-- Of configurations with a bound only those in $5 are claimed for, which the caller has locked, and no more than $6 of each
-- run at once. Ready jobs but those of $4, the most urgent and oldest first, leased for $2 seconds under the token $3. A dead
-- worker's jobs become ready by themselves. `judged` says that there is a verdict on this state already: a look may
-- enqueue a target in the moment its job ends. `scored_digest` is of what an earlier verdict without error was given; of
-- two expectations of one name the span's, then the newer, counts. The conditions `<> ''` are those of the indexes.
UPDATE scoring_jobs AS job SET
    lease = $3, available_at = now() + make_interval(secs => $2), deliveries = deliveries + 1,
    waiting_for = '', waiting_reason = '', waiting_budget = NULL
WHERE job_id IN (
    SELECT job_id FROM (
        SELECT * FROM (
            SELECT job_id, priority, available_at FROM scoring_jobs
            WHERE NOT limited AND available_at <= now() AND job_id <> ALL ($4::bigint[])
            ORDER BY priority DESC, available_at, job_id LIMIT $1 FOR UPDATE SKIP LOCKED
        ) AS free
        UNION ALL
        SELECT bounded.* FROM unnest($5::bigint[], $6::integer[]) AS config (config_id, concurrency)
        CROSS JOIN LATERAL (
            SELECT job_id, priority, available_at FROM scoring_jobs AS mine
            WHERE mine.limited AND mine.config_id = config.config_id
              AND available_at <= now() AND job_id <> ALL ($4::bigint[])
            ORDER BY priority DESC, available_at, job_id
            LIMIT greatest(0, least($1, config.concurrency - (
                SELECT count(*) FROM scoring_jobs AS running
                WHERE running.limited AND running.config_id = config.config_id
                  AND running.lease IS NOT NULL AND running.available_at > now())))
            FOR UPDATE SKIP LOCKED
        ) AS bounded
    ) AS ready
    ORDER BY priority DESC, available_at, job_id LIMIT $1
)
RETURNING job_id, scorer_name, scorer_version, experiment_id, target_type, trace_id, span_id, session_id, seen_ns,
          probability, stratum, limited, deliveries, failures, calls, cost_usd, input_tokens, output_tokens,
          coalesce(extract(epoch FROM now() - stalled_since), 0)::float8 AS stalled_seconds,
          EXISTS (
              SELECT 1 FROM assessments a
              WHERE a.trace_id = job.trace_id AND a.span_id = job.span_id
                AND md5(a.session_id) = md5(job.session_id) AND a.experiment_id = job.experiment_id
                AND a.scorer_name = job.scorer_name AND a.scorer_version = job.scorer_version AND a.scorer_name <> ''
                AND coalesce(a.target_seen_ns, 9223372036854775807) >= job.seen_ns
          ) AS judged,
          coalesce((
              SELECT min(a.input_digest) FROM assessments a
              WHERE a.trace_id = job.trace_id AND a.span_id = job.span_id
                AND md5(a.session_id) = md5(job.session_id) AND a.experiment_id = job.experiment_id
                AND a.scorer_name = job.scorer_name AND a.scorer_version = job.scorer_version AND a.scorer_name <> ''
                AND a.error_code = ''
          ), '') AS scored_digest,
          coalesce(CASE WHEN job.trace_id <> '' THEN (
              SELECT jsonb_object_agg(a.name, a.value ORDER BY a.span_id, a.created_at_ms) FROM assessments a
              WHERE a.trace_id = job.trace_id AND a.trace_id <> '' AND a.experiment_id = job.experiment_id
                AND a.span_id IN ('', job.span_id) AND a.kind = 'expectation' AND a.valid
          ) ELSE (
              SELECT jsonb_object_agg(a.name, a.value ORDER BY a.created_at_ms) FROM assessments a
              WHERE a.experiment_id = job.experiment_id AND md5(a.session_id) = md5(job.session_id)
                AND a.session_id <> '' AND a.kind = 'expectation' AND a.valid
          ) END, '{}') AS expectations

-- name: extend
-- Keeps jobs leased for $3 seconds from now while they run. Whoever locks several jobs does so in the order of their ids.
WITH held AS (
    SELECT job.job_id
    FROM scoring_jobs AS job JOIN unnest($1::bigint[], $2::uuid[]) AS held (job_id, lease) USING (job_id, lease)
    ORDER BY job.job_id FOR UPDATE OF job
)
UPDATE scoring_jobs AS job SET available_at = now() + make_interval(secs => $3)
FROM held WHERE job.job_id = held.job_id

-- name: retry
-- Gives a job back for later, with what it has cost so far.
UPDATE scoring_jobs SET
    lease = NULL, available_at = now() + make_interval(secs => $3), failures = failures + 1,
    calls = $4, cost_usd = $5, input_tokens = $6, output_tokens = $7
WHERE job_id = $1 AND lease = $2
RETURNING job_id

-- name: defer
-- Puts a job to sleep until $7, or for $8 seconds, as if it had not been claimed. A sleep whose budgets changed since they
-- refused ($6) ends at once; the lock keeps a change from coming in between.
WITH present AS (SELECT changes FROM budget_changes FOR SHARE)
UPDATE scoring_jobs SET
    lease = NULL, deliveries = deliveries - 1, waiting_for = $3, waiting_reason = $4, waiting_budget = $5,
    stalled_since = CASE WHEN $3 = 'provider' THEN coalesce(stalled_since, now()) END,
    available_at = CASE WHEN present.changes <> $6::bigint THEN now()
        ELSE coalesce($7::timestamptz, now() + make_interval(secs => $8)) END,
    calls = $9, cost_usd = $10, input_tokens = $11, output_tokens = $12
FROM present
WHERE job_id = $1 AND lease = $2
RETURNING job_id

-- name: release
-- Gives jobs back with what they have cost so far, ready in $3 seconds; the delivery counts only when $4 says so.
WITH held AS (
    SELECT job.job_id, given.calls, given.cost_usd, given.input_tokens, given.output_tokens
    FROM scoring_jobs AS job
    JOIN unnest($1::bigint[], $2::uuid[], $5::integer[], $6::float8[], $7::bigint[], $8::bigint[])
        AS given (job_id, lease, calls, cost_usd, input_tokens, output_tokens)
      ON given.job_id = job.job_id AND given.lease = job.lease
    ORDER BY job.job_id FOR UPDATE OF job
)
UPDATE scoring_jobs AS job SET
    lease = NULL, available_at = now() + make_interval(secs => $3),
    deliveries = deliveries - CASE WHEN $4 THEN 0 ELSE 1 END,
    calls = held.calls, cost_usd = held.cost_usd, input_tokens = held.input_tokens, output_tokens = held.output_tokens
FROM held WHERE job.job_id = held.job_id

-- name: finish
-- Jobs that are done, unless a later state than $3 waits for them; those do not come back that this worker does not hold.
WITH held AS (
    SELECT job.job_id, given.lease
    FROM scoring_jobs AS job
    JOIN unnest($1::bigint[], $2::uuid[], $3::bigint[]) AS given (job_id, lease, seen_ns) USING (job_id, lease)
    WHERE job.seen_ns <= given.seen_ns
    ORDER BY job.job_id FOR UPDATE OF job
)
DELETE FROM scoring_jobs AS job USING held WHERE job.job_id = held.job_id RETURNING job.job_id, held.lease

-- name: raise_probabilities
-- The verdicts on some targets stay, but the targets have been chosen with a greater chance since.
UPDATE assessments AS a SET probability = job.probability
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::text[], $6::integer[], $7::float8[])
    AS job (trace_id, span_id, session_id, experiment_id, scorer_name, scorer_version, probability)
WHERE a.trace_id = job.trace_id AND a.span_id = job.span_id AND md5(a.session_id) = md5(job.session_id)
  AND a.experiment_id = job.experiment_id AND a.scorer_name = job.scorer_name
  AND a.scorer_version = job.scorer_version AND a.scorer_name <> '' AND a.probability < job.probability

-- name: again
-- Targets that changed while they were scored: their jobs begin anew, the costs being with the verdicts on the earlier
-- states.
WITH held AS (
    SELECT job.job_id, given.lease
    FROM scoring_jobs AS job
    JOIN unnest($1::bigint[], $2::uuid[], $3::bigint[]) AS given (job_id, lease, seen_ns) USING (job_id, lease)
    WHERE job.seen_ns > given.seen_ns
    ORDER BY job.job_id FOR UPDATE OF job
)
UPDATE scoring_jobs AS job SET
    lease = NULL, available_at = now() + interval '1 second', deliveries = 0, failures = 0,
    calls = 0, cost_usd = NULL, input_tokens = NULL, output_tokens = NULL
FROM held WHERE job.job_id = held.job_id
RETURNING job.job_id, held.lease

-- name: depth
-- How many jobs wait or run, and how long the oldest has been ready, in seconds.
SELECT count(*) AS jobs, coalesce(extract(epoch FROM now() - min(available_at)), 0)::float8 AS oldest_seconds
FROM scoring_jobs WHERE available_at <= now()

-- name: by_state
-- How many jobs run, are ready and wait for their time, counted up to a bound.
SELECT
    count(*) FILTER (WHERE lease IS NOT NULL AND available_at > now()) AS running,
    count(*) FILTER (WHERE available_at <= now()) AS ready,
    count(*) FILTER (WHERE lease IS NULL AND available_at > now() AND waiting_for = '') AS waiting,
    count(*) FILTER (WHERE available_at > now() AND waiting_for = 'budget') AS waiting_for_budget,
    count(*) FILTER (WHERE available_at > now() AND waiting_for = 'provider') AS waiting_for_provider
FROM (SELECT lease, available_at, waiting_for FROM scoring_jobs LIMIT $1) AS jobs

-- name: waits
-- What jobs wait for and why, and when the first of them goes on; the most frequent first.
SELECT scorer_name, waiting_for, waiting_reason, count(*) AS jobs, min(available_at) AS resumes_at
FROM scoring_jobs WHERE waiting_for <> '' AND available_at > now()
GROUP BY scorer_name, waiting_for, waiting_reason ORDER BY count(*) DESC, 1, 2, 3 LIMIT $1
