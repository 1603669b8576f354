-- Log records with content become part of their span's row. Whoever writes rows of spans, or log records, afterwards brings
-- the rows of the traces it touched up to the log records of now; so whatever comes when, the last to write sees all, and
-- a row that two write at once is right when both have looked.
--
-- Of each span the first 1,000 records of an experiment count, and 32 MiB of them. A record belongs to the span of its ids
-- in its own experiment; in every other one too, unless its sender's key is bound to experiments.

-- name: any
-- Whether there are log events of the traces that some batches touched, one share of several.
SELECT 1 AS found FROM log_places
WHERE trace_id IN (
    SELECT trace_id FROM trace_touches
    WHERE batch IN {batches:Array(String)} AND sipHash64(trace_id) % {shares:UInt32} = {share:UInt32})
LIMIT 1

-- name: note_behind
-- Notes spans of these traces whose row does not have all its log events; their times tell which it has.
INSERT INTO log_joins
WITH touched AS (
    SELECT trace_id FROM trace_touches
    WHERE batch IN {batches:Array(String)} AND sipHash64(trace_id) % {shares:UInt32} = {share:UInt32}
)
SELECT {name:String}, s.experiment_id, s.trace_id, s.span_id, intDiv(toInt64(s.start_time), 5), now('UTC')
FROM (
    SELECT experiment_id, trace_id, span_id, start_time, log_events.time AS times
    FROM span_rows FINAL
    PREWHERE trace_id IN (SELECT trace_id FROM log_places WHERE trace_id IN (SELECT trace_id FROM touched))
        AND span_id IN (SELECT span_id FROM log_places WHERE trace_id IN (SELECT trace_id FROM touched))
        AND (experiment_id, intDiv(toInt64(start_time), 5)) IN (
            SELECT experiment_id, slice FROM trace_slices WHERE trace_id IN (SELECT trace_id FROM touched))
) AS s
INNER JOIN (
    SELECT t.experiment_id AS experiment_id, p.trace_id AS trace_id, p.span_id AS span_id, arraySort(groupArray(p.time)) AS times
    FROM (
        SELECT
            experiment_id, trace_id, span_id, sender_bound, time,
            row_number() OVER before AS number, sum(size) OVER before AS size_before
        FROM log_places FINAL
        WHERE trace_id IN (SELECT trace_id FROM touched)
        WINDOW before AS (
            PARTITION BY trace_id, span_id, experiment_id, sender_bound ORDER BY time, place, log_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    ) AS p
    INNER JOIN (
        SELECT DISTINCT trace_id, experiment_id FROM trace_slices WHERE trace_id IN (SELECT trace_id FROM touched)
    ) AS t ON t.trace_id = p.trace_id
    WHERE p.number <= 1000 AND p.size_before <= 33554432 AND (p.experiment_id = t.experiment_id OR NOT p.sender_bound)
    GROUP BY experiment_id, trace_id, span_id
) AS w ON w.experiment_id = s.experiment_id AND w.trace_id = s.trace_id AND w.span_id = s.span_id
WHERE s.times != w.times

-- name: count_behind
-- How many spans were noted.
SELECT count() AS behind FROM log_joins WHERE batch = {name:String}

-- name: join
-- Writes these rows anew, through the views that fill them, with all their log events; the version of a row stays.
INSERT INTO spans_in (* EXCEPT (finish_told))
SELECT
    * EXCEPT (of_trace, of_span, began, map_version, tells_of_parent, moves, contents)
    REPLACE (contents AS log_events, firstNonDefault(exception_type, ${exception_told}) AS exception_type),
    ${input_told} AS input_told,
    ${output_told} AS output_told
FROM (
    SELECT s.*, c.contents AS contents
    FROM (
        SELECT * FROM spans_again
        WHERE of_trace IN (SELECT trace_id FROM log_joins WHERE batch = {name:String})
          AND of_span IN (SELECT span_id FROM log_joins WHERE batch = {name:String})
          AND (experiment_id, intDiv(toInt64(began), 5)) IN (
              SELECT experiment_id, slice FROM log_joins WHERE batch = {name:String})
    ) AS s
    INNER JOIN (
        SELECT
            b.experiment_id AS experiment_id, l.trace_id AS trace_id, l.span_id AS span_id,
            CAST(arrayMap(event -> (event.1, event.3, event.4), arraySort(event -> (event.1, event.2), groupArray((
                l.time, l.place, l.event_name,
                -- what the body holds is what events have as attributes, and goes before them
                concat('{', arrayStringConcat(arrayFilter(text -> text != '', arrayConcat(
                    [multiIf(
                        l.body_type IN ('json', 'string') AND match(l.body, '^\\s*\\{') AND isValidJSON(l.body), extract(l.body, '^\\s*\\{\\s*((?s:.*?))\\s*\\}\\s*$$'),
                        l.body_type IN ('', 'bytes'), '',
                        concat('"content":', if(l.body_type = 'string', toJSONString(l.body), l.body)))],
                    arrayMap((key, value) -> concat(toJSONString(key), ':', toJSONString(value)), mapKeys(l.strings), mapValues(l.strings)),
                    arrayMap((key, value) -> concat(toJSONString(key), ':', value), mapKeys(l.others), mapValues(l.others))
                )), ','), '}'))))), 'Array(Tuple(time DateTime64(9, \'UTC\'), name String, attributes String))') AS contents
        FROM (
            SELECT
                r.experiment_id AS experiment_id, r.trace_id AS trace_id, r.span_id AS span_id, r.sender_bound AS sender_bound,
                r.time AS time, p.place AS place, toString(r.event_name) AS event_name,
                -- ADK sends all fields of a part, and null in those that it lacks
                if(r.body_type = 'json', replaceRegexpAll(replaceRegexpAll(r.body, ',"[A-Za-z_]+":null', ''), '\\{"[A-Za-z_]+":null,?', '{'), r.body) AS body,
                toString(r.body_type) AS body_type,
                CAST(r.attributes_string, 'Map(String, String)') AS strings,
                mapConcat(
                    mapApply((key, value) -> (toString(key), toString(value)), r.attributes_int),
                    mapApply((key, value) -> (toString(key), if(isFinite(value), toString(value), toJSONString(toString(value)))), r.attributes_float),
                    mapApply((key, value) -> (toString(key), if(value, 'true', 'false')), r.attributes_bool),
                    CAST(r.attributes_json, 'Map(String, String)')) AS others
            FROM (
                SELECT * FROM log_rows FINAL
                PREWHERE (experiment_id, minute, trace_id, span_id, log_id) IN (
                    SELECT experiment_id, minute, trace_id, span_id, log_id FROM log_places
                    WHERE (trace_id, span_id) IN (SELECT trace_id, span_id FROM log_joins WHERE batch = {name:String}))
            ) AS r
            INNER JOIN (
                SELECT
                    *, row_number() OVER before AS number, sum(size) OVER before AS size_before
                FROM log_places FINAL
                WHERE (trace_id, span_id) IN (SELECT trace_id, span_id FROM log_joins WHERE batch = {name:String})
                WINDOW before AS (
                    PARTITION BY trace_id, span_id, experiment_id, sender_bound ORDER BY time, place, log_id
                    ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
            ) AS p ON p.log_id = r.log_id AND p.experiment_id = r.experiment_id AND p.minute = r.minute
                AND p.trace_id = r.trace_id AND p.span_id = r.span_id
            WHERE p.number <= 1000 AND p.size_before <= 33554432
        ) AS l
        INNER JOIN (
            SELECT DISTINCT experiment_id, trace_id, span_id FROM log_joins WHERE batch = {name:String}
        ) AS b ON b.trace_id = l.trace_id AND b.span_id = l.span_id
        WHERE l.experiment_id = b.experiment_id OR NOT l.sender_bound
        GROUP BY experiment_id, trace_id, span_id
    ) AS c ON c.experiment_id = s.experiment_id AND c.trace_id = s.of_trace AND c.span_id = s.of_span
)

-- name: touched
-- Whether log events came with some batches, one share of several.
SELECT 1 AS found FROM log_touches
WHERE batch IN {batches:Array(String)} AND sipHash64(trace_id) % {shares:UInt32} = {share:UInt32}
LIMIT 1

-- name: touch
-- Notes their traces as touched, as far as spans of them are there: whatever was joined before a crash, their rows are
-- computed anew.
INSERT INTO trace_touches
SELECT DISTINCT {name:String}, experiment_id, trace_id, now('UTC') FROM trace_slices
WHERE trace_id IN (
    SELECT trace_id FROM log_touches
    WHERE batch IN {batches:Array(String)} AND sipHash64(trace_id) % {shares:UInt32} = {share:UInt32})
