-- name: now
-- The clock that also stamps rows, and when a trace or session last said that it is over, 0 when none did.
SELECT
    toUnixTimestamp64Nano(now64(9)) AS now_ns,
    (SELECT toUnixTimestamp64Nano(max(inserted_at)) FROM trace_ends) AS ended_ns

-- name: due_traces
-- Traces that become due in a window, with the columns of the view `traces`; see watch.py. The newest rows are found by when
-- they were written, which prunes old parts; the newest of them is the newest there is. One that says that it is over waits
-- for nothing. Of the experiment 2147483647, which holds the calls of judges, nothing ever is a target, here and below.
SELECT
    *, trace_id AS of_trace, '' AS of_span, '' AS of_session, user_id AS of_user, lower(trace_id) AS key,
    1. AS prior, 9007199254740992 AS cap,
    toUnixTimestamp64Nano(last_seen) + span_count AS seen_ns,
    /* is over */ AS is_over,
    greatest(
        if(
            is_over OR complete,
            least(toUnixTimestamp64Nano(last_seen), written_ns) + if(is_over, 0, {settle_ns:Int64}),
            intDiv(least(toUnixTimestamp64Nano(last_seen), written_ns) + {age_ns:Int64} - 1, {step_ns:Int64})
                * {step_ns:Int64} + {step_ns:Int64}),
        written_ns + {grace_ns:Int64}
    ) AS due_ns
FROM (
    SELECT * EXCEPT version REPLACE (toString(state) AS state), toUnixTimestamp64Nano(version) AS written_ns
    FROM /* rows */
    ORDER BY version DESC
    LIMIT 1 BY experiment_id, trace_id
)
WHERE due_ns < {until_ns:Int64} AND due_ns >= {from_ns:Int64}
  AND (complete OR is_over OR {prompt:UInt8} = 0)
  AND if({every:UInt8} = 1, NOT has({left_out:Array(UInt32)}, experiment_id), experiment_id = {experiment_id:UInt32})
  AND experiment_id != 2147483647

-- name: trace_is_over
-- Whether a due trace has said so.
(experiment_id, trace_id) IN (
    SELECT experiment_id, trace_id FROM trace_ends
    WHERE target = 'trace' AND inserted_at > fromUnixTimestamp64Nano({written_after_ns:Int64}) - INTERVAL 10 MINUTE)

-- name: session_is_over
-- Whether the latest trace of a quiet session has.
(experiment_id, argMax(trace_id, last_seen)) IN (
    SELECT experiment_id, trace_id FROM trace_ends
    WHERE target = 'session' AND inserted_at > fromUnixTimestamp64Nano({written_after_ns:Int64}) - INTERVAL 10 MINUTE)

-- name: lately
-- The rows among which a trace that is complete and becomes due in the window has its newest.
trace_rows WHERE version > fromUnixTimestamp64Nano({written_after_ns:Int64})

-- name: lately_or_aged
-- And those of traces that become due by their age, which were written long before: they are found by narrow columns, but
-- by reading all that was written since. So they become due at whole steps, and most windows do without.
(
    SELECT * FROM trace_rows WHERE version > fromUnixTimestamp64Nano({written_after_ns:Int64})
    UNION ALL
    SELECT * FROM trace_rows
    WHERE version <= fromUnixTimestamp64Nano({written_after_ns:Int64}) AND (experiment_id, trace_id) IN (
        SELECT experiment_id, trace_id FROM trace_rows
        WHERE NOT complete
          AND version <= fromUnixTimestamp64Nano({written_after_ns:Int64})
          AND version > fromUnixTimestamp64Nano({aged_after_ns:Int64})
          AND toUnixTimestamp64Nano(least(last_seen, version)) + {age_ns:Int64} < {until_ns:Int64}
          AND toUnixTimestamp64Nano(least(last_seen, version)) + {age_ns:Int64} >= {from_ns:Int64} - {step_ns:Int64})
)

-- name: due_spans
-- The spans of those traces, with the columns of the view `spans`.
SELECT
    found.*, found.trace_id AS of_trace, found.span_id AS of_span, '' AS of_session, found.user_id AS of_user,
    concat(lower(found.trace_id), found.span_id) AS key,
    1. AS prior, 9007199254740992 AS cap,
    ended.seen_ns AS seen_ns, ended.due_ns AS due_ns
FROM (
    SELECT *
    FROM spans
    WHERE (experiment_id, intDiv(toInt64(start_time), 5)) IN (
        SELECT experiment_id, slice FROM trace_slices
        WHERE (trace_id, experiment_id) IN (SELECT of_trace, experiment_id FROM (/* due traces */)))
      AND (experiment_id, trace_id) IN (SELECT experiment_id, of_trace FROM (/* due traces */))
) AS found
INNER JOIN (SELECT experiment_id, of_trace, seen_ns, due_ns FROM (/* due traces */)) AS ended
    ON found.experiment_id = ended.experiment_id AND found.trace_id = ended.of_trace

-- name: due_sessions
-- Sessions of which nothing came for a while, with the columns of the view `sessions`. The trace that came last was written
-- lately, so the sessions are found by what was; they are summed up over all their traces.
SELECT
    *, '' AS of_trace, '' AS of_span, session_id AS of_session, user_ids[1] AS of_user, session_id AS key,
    1. AS prior, 9007199254740992 AS cap
FROM (
    SELECT quieted.*, arrived.seen_ns AS seen_ns
    FROM (
        SELECT summed.*, quiet.due_ns AS due_ns
        FROM (
            SELECT *
            FROM sessions
            WHERE (experiment_id, session_id) IN (SELECT experiment_id, session_id FROM (/* quiet sessions */))
        ) AS summed
        INNER JOIN (/* quiet sessions */) AS quiet
            ON summed.experiment_id = quiet.experiment_id AND summed.session_id = quiet.session_id
    ) AS quieted
    INNER JOIN (
        SELECT experiment_id, session_id, max(toUnixTimestamp64Nano(last_seen)) + sum(span_count) AS seen_ns
        FROM traces
        WHERE (experiment_id, session_id) IN (SELECT experiment_id, session_id FROM (/* quiet sessions */))
        GROUP BY experiment_id, session_id
    ) AS arrived
        ON quieted.experiment_id = arrived.experiment_id AND quieted.session_id = arrived.session_id
)

-- name: quiet_sessions
-- Which sessions those are. One whose latest trace says that it is over waits for nothing.
SELECT
    experiment_id, session_id,
    /* is over */ AS is_over,
    greatest(
        max(toUnixTimestamp64Nano(least(last_seen, version))) + if(is_over, 0, {idle_ns:Int64}),
        max(toUnixTimestamp64Nano(version)) + {grace_ns:Int64}
    ) AS due_ns
FROM (
    SELECT experiment_id, session_id, trace_id, last_seen, version
    FROM trace_rows
    WHERE version > fromUnixTimestamp64Nano({written_after_ns:Int64}) AND session_id != ''
      AND if(
          {every:UInt8} = 1, NOT has({left_out:Array(UInt32)}, experiment_id), experiment_id = {experiment_id:UInt32})
      AND experiment_id != 2147483647
    ORDER BY version DESC
    LIMIT 1 BY experiment_id, trace_id
)
GROUP BY experiment_id, session_id
HAVING due_ns < {until_ns:Int64} AND due_ns >= {from_ns:Int64}

-- name: arrived_verdicts
-- Targets of which a verdict of an earlier scorer became visible in a window. One that is judged again moves on.
SELECT
    experiment_id, trace_id, span_id, session_id, toUnixTimestamp64Nano(max(arrived_at)) + {grace_ns:Int64} AS due_ns
FROM verdict_arrivals
WHERE scorer_name = {after:String} AND target_type = {target_type:String}
  AND arrived_at >= fromUnixTimestamp64Nano({from_ns:Int64} - {grace_ns:Int64})
  AND ({after_version:UInt32} = 0 OR scorer_version = {after_version:UInt32})
  AND if({every:UInt8} = 1, NOT has({left_out:Array(UInt32)}, experiment_id), experiment_id = {experiment_id:UInt32})
GROUP BY experiment_id, trace_id, span_id, session_id
HAVING due_ns < {until_ns:Int64}

-- name: earlier_verdicts
-- The verdicts on those targets as they stand, of the newest version that gave one. A judge with several questions has no
-- single verdict.
SELECT judged.*, arrived.due_ns AS due_ns
FROM (
    SELECT
        experiment_id, trace_id, span_id, session_id,
        if(count() = 1, any(value), '') AS verdict,
        if(count() = 1, any(value_number), NULL) AS verdict_number,
        max(error_code) AS verdict_error,
        CAST((groupArray(substring(name, length(scorer_name) + 2)), groupArray(value)), 'Map(String, String)') AS verdicts,
        assumeNotNull(min(probability)) AS prior,
        max(target_seen_ns) AS seen_ns
    FROM assessment_rows FINAL
    WHERE NOT deleted AND scorer_name = {after:String} AND probability > 0
      AND ({after_version:UInt32} = 0 OR scorer_version = {after_version:UInt32})
      AND (experiment_id, trace_id, session_id) IN (
          SELECT experiment_id, trace_id, session_id FROM (/* arrived verdicts */))
    GROUP BY experiment_id, trace_id, span_id, session_id, scorer_name, scorer_version
    ORDER BY scorer_version DESC
    LIMIT 1 BY experiment_id, trace_id, span_id, session_id
) AS judged
INNER JOIN (/* arrived verdicts */) AS arrived
    ON judged.experiment_id = arrived.experiment_id AND judged.trace_id = arrived.trace_id
    AND judged.span_id = arrived.span_id AND judged.session_id = arrived.session_id

-- name: due_after
-- Targets that an earlier scorer has judged, with the columns of their view and those of the verdict.
SELECT
    target.*, earlier.verdict AS verdict, earlier.verdict_number AS verdict_number,
    earlier.verdict_error AS verdict_error, earlier.verdicts AS verdicts,
    earlier.prior AS prior, 9007199254740992 AS cap, earlier.seen_ns AS seen_ns, earlier.due_ns AS due_ns
FROM (/* judged targets */) AS target
INNER JOIN (/* earlier verdicts */) AS earlier
    ON target.experiment_id = earlier.experiment_id AND target.of_trace = earlier.trace_id
    AND target.of_span = earlier.span_id AND target.of_session = earlier.session_id

-- name: judged_traces
-- Those targets where they are traces.
SELECT *, trace_id AS of_trace, '' AS of_span, '' AS of_session, user_id AS of_user, lower(trace_id) AS key
FROM traces
WHERE (experiment_id, trace_id) IN (SELECT experiment_id, trace_id FROM (/* arrived verdicts */))

-- name: judged_spans
-- Those targets where they are spans.
SELECT
    *, trace_id AS of_trace, span_id AS of_span, '' AS of_session, user_id AS of_user, concat(lower(trace_id), span_id) AS key
FROM spans
WHERE (experiment_id, intDiv(toInt64(start_time), 5)) IN (
    SELECT experiment_id, slice FROM trace_slices
    WHERE (trace_id, experiment_id) IN (SELECT trace_id, experiment_id FROM (/* arrived verdicts */)))
  AND (experiment_id, trace_id, span_id) IN (SELECT experiment_id, trace_id, span_id FROM (/* arrived verdicts */))

-- name: judged_sessions
-- Those targets where they are sessions.
SELECT *, '' AS of_trace, '' AS of_span, session_id AS of_session, user_ids[1] AS of_user, session_id AS key
FROM sessions
WHERE (experiment_id, session_id) IN (SELECT experiment_id, session_id FROM (/* arrived verdicts */))

-- name: first_due
-- When the first target of a window is due; 0 when none is.
SELECT min(due_ns) AS due_ns FROM (/* due */)

-- name: choose
-- A page of due, sampled and filtered targets in order of due time; see sample.py. What is in no stratum has the first
-- threshold; `cap` is the greatest that fairness allows.
SELECT
    experiment_id, of_trace AS trace_id, of_span AS span_id, of_session AS session_id, key, due_ns, seen_ns, stratum, prior,
    least({thresholds:Array(UInt64)}[stratum + 1], cap) AS threshold,
    sipHash64(concat({salt:String}, char(0), {stage:String}, key)) AS hash
FROM (SELECT *, /* stratum */ AS stratum FROM (/* due */) WHERE /* filter */)
WHERE (due_ns, key) > ({after_ns:Int64}, {after_key:String})
  AND bitShiftRight(hash, 11) < threshold
ORDER BY due_ns, key
LIMIT {page:UInt64} WITH TIES

-- name: account
-- What is decided of every due target, chosen or not. Safe to repeat: a later decision on a target replaces the earlier.
INSERT INTO scoring_decisions (
    scorer_name, scorer_version, experiment_id, target_type, trace_id, span_id, session_id, user_id, seen_at,
    decision, stratum, probability, decided_at
)
WITH least({thresholds:Array(UInt64)}[stratum + 1], cap) AS threshold
SELECT
    {scorer_name:String}, {scorer_version:UInt32}, experiment_id, {target_type:String}, of_trace, of_span, of_session,
    of_user, fromUnixTimestamp64Nano(seen_ns, 'UTC'),
    multiIf(
        NOT kept, 'filtered',
        bitShiftRight(sipHash64(concat({salt:String}, char(0), {stage:String}, key)), 11) < threshold, 'chosen',
        'not_chosen'),
    {strata:Array(String)}[stratum + 1], prior * threshold / 9007199254740992, now64(9)
FROM (SELECT *, /* stratum */ AS stratum, /* filter */ AS kept FROM (/* due */))

-- name: fair_due
-- Due targets with the greatest threshold that fairness allows: so many for each member in an hour, as many as it had in the
-- hour before. Who had few has no bound, nor who is unknown.
SELECT
    due.*,
    if(volume > 0, toUInt64(least(1., {fair_per_hour:Float64} / volume) * 9007199254740992), 9007199254740992) AS cap
FROM (SELECT *, ifNull(toString((
/* fair */
)), '') AS member FROM (/* due */)) AS due
LEFT JOIN (
    SELECT experiment_id, member, min(volume) AS volume
    FROM scoring_volumes
    WHERE basis = {basis:String} AND hour = fromUnixTimestamp64Nano({hour_ns:Int64}, 'UTC') AND member != ''
    GROUP BY experiment_id, member
) AS volumes ON due.experiment_id = volumes.experiment_id AND due.member = volumes.member

-- name: volumes_known
-- Whether the hour before an hour was counted.
SELECT count() > 0 AS known FROM scoring_volumes
WHERE basis = {basis:String} AND hour = fromUnixTimestamp64Nano({hour_ns:Int64}, 'UTC') AND member = ''

-- name: take_volumes
-- Counts it: targets that began then and pass the filter, of members that may have more than their share.
INSERT INTO scoring_volumes (basis, hour, experiment_id, member, volume)
WITH fromUnixTimestamp64Nano({hour_ns:Int64}, 'UTC') AS hour
SELECT {basis:String}, hour, experiment_id, member, volume
FROM (
    SELECT experiment_id, ifNull(toString((
/* fair */
)), '') AS member, count() AS volume
    FROM (/* due */)
    WHERE /* filter */
    GROUP BY experiment_id, member
    HAVING member != '' AND volume > {least_volume:Float64}
    UNION ALL
    SELECT 0, '', 0
)

-- name: account_past
-- The same of the targets of a backfill's page, from after one (due_ns, key) to another, beside what was decided of them
-- before: whatever chose one, it is chosen. What the page did not choose, but would now, came meanwhile and is left out.
INSERT INTO scoring_decisions (
    scorer_name, scorer_version, experiment_id, target_type, trace_id, span_id, session_id, user_id, seen_at,
    decision, stratum, probability, decided_at
)
SELECT
    {scorer_name:String}, {scorer_version:UInt32}, found.experiment_id, {target_type:String},
    found.of_trace, found.of_span, found.of_session, found.of_user,
    greatest(fromUnixTimestamp64Nano(found.seen_ns, 'UTC'), known.seen_at),
    multiIf(
        found.chosen OR known.decision = 'chosen', 'chosen',
        found.kept OR known.decision = 'not_chosen', 'not_chosen',
        'filtered'),
    known.stratum,
    if(found.chosen OR known.decision = '', {thresholds:Array(UInt64)}[1] / 9007199254740992, known.probability), now64(9)
FROM (
    SELECT
        experiment_id, of_trace, of_span, of_session, of_user, seen_ns, kept, hash,
        kept AND bitShiftRight(hash, 11) < {thresholds:Array(UInt64)}[1] AS chosen
    FROM (
        SELECT *, /* filter */ AS kept, sipHash64(concat({salt:String}, char(0), {stage:String}, key)) AS hash
        FROM (/* due */)
    )
    WHERE (due_ns, key) > ({after_ns:Int64}, {after_key:String}) AND (due_ns, key) <= ({last_ns:Int64}, {last_key:String})
      AND NOT (chosen AND NOT has({chosen:Array(UInt64)}, hash))
) AS found
LEFT JOIN (
    SELECT
        experiment_id, trace_id, span_id, session_id, seen_at, toString(decision) AS decision,
        toString(stratum) AS stratum, probability
    FROM scoring_decisions FINAL
    WHERE scorer_name = {scorer_name:String} AND scorer_version = {scorer_version:UInt32}
      AND target_type = {target_type:String}
      AND (trace_id, span_id, session_id) IN (SELECT of_trace, of_span, of_session FROM (/* due */))
) AS known
    ON found.experiment_id = known.experiment_id AND found.of_trace = known.trace_id
    AND found.of_span = known.span_id AND found.of_session = known.session_id

-- name: past_traces
-- Traces that began in a range of time, complete or not, with the columns of the view `traces`.
SELECT
    *, trace_id AS of_trace, '' AS of_span, '' AS of_session, user_id AS of_user, lower(trace_id) AS key,
    1. AS prior, 9007199254740992 AS cap,
    toUnixTimestamp64Nano(last_seen) + span_count AS seen_ns, toUnixTimestamp64Nano(start_time) AS due_ns
FROM traces
WHERE start_time >= fromUnixTimestamp64Nano({from_ns:Int64}, 'UTC')
  AND start_time < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')
  AND ({every:UInt8} = 1 OR experiment_id = {experiment_id:UInt32})
  AND experiment_id != 2147483647

-- name: past_spans
-- Spans that began in a range of time, with the columns of the view `spans`.
SELECT
    *, trace_id AS of_trace, span_id AS of_span, '' AS of_session, user_id AS of_user,
    concat(lower(trace_id), span_id) AS key,
    1. AS prior, 9007199254740992 AS cap,
    toUnixTimestamp64Nano(received_at) AS seen_ns, toUnixTimestamp64Nano(start_time) AS due_ns
FROM spans
WHERE start_time >= fromUnixTimestamp64Nano({from_ns:Int64}, 'UTC')
  AND start_time < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')
  AND ({every:UInt8} = 1 OR experiment_id = {experiment_id:UInt32})
  AND experiment_id != 2147483647

-- name: past_sessions
-- Sessions that began in a range of time, with the columns of the view `sessions`.
SELECT
    summed.*, '' AS of_trace, '' AS of_span, summed.session_id AS of_session, summed.user_ids[1] AS of_user,
    summed.session_id AS key, 1. AS prior, 9007199254740992 AS cap,
    arrived.seen_ns AS seen_ns, toUnixTimestamp64Nano(summed.first_seen) AS due_ns
FROM (
    SELECT * FROM sessions
    WHERE first_seen >= fromUnixTimestamp64Nano({from_ns:Int64}, 'UTC')
      AND first_seen < fromUnixTimestamp64Nano({until_ns:Int64}, 'UTC')
      AND ({every:UInt8} = 1 OR experiment_id = {experiment_id:UInt32})
      AND experiment_id != 2147483647
) AS summed
INNER JOIN (
    SELECT experiment_id, session_id, max(toUnixTimestamp64Nano(last_seen)) + sum(span_count) AS seen_ns
    FROM traces
    WHERE session_id != '' AND ({every:UInt8} = 1 OR experiment_id = {experiment_id:UInt32})
    GROUP BY experiment_id, session_id
) AS arrived
    ON summed.experiment_id = arrived.experiment_id AND summed.session_id = arrived.session_id

-- name: count
-- How many targets of a range the filter keeps, and how many of them sampling chooses.
SELECT
    count() AS found,
    countIf(bitShiftRight(sipHash64(concat({salt:String}, char(0), {stage:String}, key)), 11) < {thresholds:Array(UInt64)}[1]) AS chosen
FROM (SELECT * FROM (/* due */) WHERE /* filter */)
