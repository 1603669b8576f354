-- not blocking, pre: budgets of judges, their ledger, and jobs that wait for a budget or a provider.

-- A missing scorer ('') or experiment (NULL) stands for every one; a budget without both is the deployment's.
CREATE TABLE tracestone.budgets (
    budget_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scorer_name text NOT NULL,
    experiment_id integer,
    unit text NOT NULL CHECK (unit IN ('usd', 'tokens')),
    period text NOT NULL CHECK (period IN ('day', 'week', 'month')),
    cap numeric NOT NULL CHECK (cap >= 0),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (scorer_name, experiment_id, unit, period)
);

-- What a budget spent and has reserved in one of its periods, which is a calendar day, week (from Monday) or month in
-- UTC. `reserved` is the sum of the reservations; both change only under the lock of the budget's row.
CREATE TABLE tracestone.budget_periods (
    budget_id bigint NOT NULL REFERENCES tracestone.budgets ON DELETE CASCADE,
    starts date NOT NULL,
    spent numeric NOT NULL DEFAULT 0,
    reserved numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (budget_id, starts)
);

-- The most that a call under way may cost each of its budgets. `holder` is a process, which puts `expires_at` off while
-- it lives.
CREATE TABLE tracestone.budget_reservations (
    reservation_id uuid NOT NULL,
    budget_id bigint NOT NULL REFERENCES tracestone.budgets ON DELETE CASCADE,
    starts date NOT NULL,
    amount numeric NOT NULL,
    holder uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (reservation_id, budget_id)
);

CREATE INDEX budget_reservations_by_expiry ON tracestone.budget_reservations (budget_id, expires_at);
CREATE INDEX budget_reservations_by_holder ON tracestone.budget_reservations (holder);

-- What judges' calls cost, by the hour (UTC); kept with and without budgets, so that a new one knows its period.
CREATE TABLE tracestone.spending (
    hour timestamptz NOT NULL,
    scorer_name text NOT NULL,
    experiment_id integer NOT NULL,
    calls bigint NOT NULL,
    usd numeric NOT NULL,
    tokens numeric NOT NULL,
    PRIMARY KEY (hour, scorer_name, experiment_id)
);

-- Batches that were settled: one that is sent again because its answer was lost counts once.
CREATE TABLE tracestone.budget_settlements (
    settlement_id uuid PRIMARY KEY,
    settled_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX budget_settlements_by_time ON tracestone.budget_settlements (settled_at);

-- Counts what may let capped work go on: caps raised, budgets removed, prices told. Whoever puts a job to sleep compares
-- under a lock, so no change falls between the refusal and the sleep.
CREATE TABLE tracestone.budget_changes (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    changes bigint NOT NULL DEFAULT 0
);

INSERT INTO tracestone.budget_changes DEFAULT VALUES;

-- Why a job waits: '' for its turn or its next try, 'budget', 'provider'.
ALTER TABLE tracestone.scoring_jobs
    ADD COLUMN waiting_for text NOT NULL DEFAULT '',
    ADD COLUMN waiting_reason text NOT NULL DEFAULT '',
    ADD COLUMN waiting_budget bigint;

CREATE INDEX scoring_jobs_waiting ON tracestone.scoring_jobs (waiting_for, waiting_budget) WHERE waiting_for <> '';

CREATE FUNCTION tracestone.budget_starts(period text, at timestamptz) RETURNS date LANGUAGE sql STABLE
RETURN date_trunc(period, at AT TIME ZONE 'UTC')::date;

CREATE FUNCTION tracestone.budget_ends(period text, starts date) RETURNS timestamptz LANGUAGE sql STABLE
RETURN (starts + ('1 ' || period)::interval) AT TIME ZONE 'UTC';

-- Locks the budgets of these scorers and experiments, always in the same order, and lets expired reservations go.
CREATE FUNCTION tracestone.lock_budgets(scorers text[], experiments integer[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    locked bigint[];
BEGIN
    SELECT array_agg(mine.budget_id) INTO locked FROM (
        SELECT b.budget_id FROM tracestone.budgets AS b
        WHERE (b.scorer_name = '' OR b.scorer_name = ANY (scorers))
          AND (b.experiment_id IS NULL OR b.experiment_id = ANY (experiments))
        ORDER BY b.budget_id FOR NO KEY UPDATE
    ) AS mine;
    WITH gone AS (
        DELETE FROM tracestone.budget_reservations AS r
        WHERE r.budget_id = ANY (locked) AND r.expires_at <= now()
        RETURNING r.budget_id, r.starts, r.amount
    ), sums AS (
        SELECT gone.budget_id, gone.starts, sum(gone.amount) AS amount FROM gone GROUP BY 1, 2
    )
    UPDATE tracestone.budget_periods AS p SET reserved = p.reserved - sums.amount
    FROM sums WHERE p.budget_id = sums.budget_id AND p.starts = sums.starts;
    RETURN coalesce(locked, '{}');
END
$$;

-- Reserves for each call its bound in all of its budgets, or in none: then a row says which budget it waits for. `why` is
-- 'spent' (until the period ends), 'reserved' (until others settle), 'too_large' (over the whole cap) or 'unpriced'.
CREATE FUNCTION tracestone.reserve_budgets(
    process uuid, seconds float8, ids uuid[], scorers text[], experiments integer[], usd numeric[], tokens numeric[]
) RETURNS TABLE (refused uuid, refusing bigint, why text, needed numeric, resumes_at timestamptz, seen bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    locked bigint[] := tracestone.lock_budgets(scorers, experiments);
    free numeric[];
    of_scorer text[];
    of_experiment integer[];
    in_unit text[];
    caps numeric[];
    begun date[];
    ends timestamptz[];
    unspent numeric[];
    needs numeric[];
    got_ids uuid[] := '{}';
    got_budgets bigint[] := '{}';
    got_starts date[] := '{}';
    got_amounts numeric[] := '{}';
    reason text;
    until timestamptz;
BEGIN
    IF cardinality(locked) = 0 THEN
        RETURN;
    END IF;
    INSERT INTO tracestone.budget_periods AS p (budget_id, starts)
    SELECT b.budget_id, tracestone.budget_starts(b.period, now()) FROM tracestone.budgets AS b
    WHERE b.budget_id = ANY (locked) ON CONFLICT DO NOTHING;
    SELECT array_agg(b.scorer_name ORDER BY b.budget_id), array_agg(b.experiment_id ORDER BY b.budget_id),
           array_agg(b.unit ORDER BY b.budget_id), array_agg(b.cap ORDER BY b.budget_id),
           array_agg(p.starts ORDER BY b.budget_id),
           array_agg(tracestone.budget_ends(b.period, p.starts) ORDER BY b.budget_id),
           array_agg(b.cap - p.spent ORDER BY b.budget_id), array_agg(b.cap - p.spent - p.reserved ORDER BY b.budget_id)
    INTO of_scorer, of_experiment, in_unit, caps, begun, ends, unspent, free
    FROM tracestone.budgets AS b JOIN tracestone.budget_periods AS p
      ON p.budget_id = b.budget_id AND p.starts = tracestone.budget_starts(b.period, now())
    WHERE b.budget_id = ANY (locked);
    SELECT c.changes INTO seen FROM tracestone.budget_changes AS c;
    FOR i IN 1 .. cardinality(ids) LOOP
        refusing := NULL;
        resumes_at := NULL;
        needs := array_fill(NULL::numeric, ARRAY[cardinality(locked)]);
        FOR j IN 1 .. cardinality(locked) LOOP
            CONTINUE WHEN of_scorer[j] NOT IN ('', scorers[i])
                OR (of_experiment[j] IS NOT NULL AND of_experiment[j] <> experiments[i]);
            needs[j] := CASE in_unit[j] WHEN 'usd' THEN usd[i] ELSE tokens[i] END;
            CONTINUE WHEN needs[j] <= free[j];
            IF needs[j] IS NULL THEN
                reason := 'unpriced';
                until := now() + interval '1 day';
            ELSIF needs[j] > caps[j] THEN
                reason := 'too_large';
                until := ends[j];
            ELSIF needs[j] > unspent[j] THEN
                reason := 'spent';
                until := ends[j];
            ELSE
                reason := 'reserved';
                until := now() + interval '1 second' + random() * interval '1 second';
            END IF;
            -- The one that takes longest is told.
            IF resumes_at IS NULL OR until > resumes_at THEN
                refusing := locked[j];
                resumes_at := until;
                why := reason;
                needed := needs[j];
            END IF;
        END LOOP;
        IF refusing IS NOT NULL THEN
            refused := ids[i];
            RETURN NEXT;
            CONTINUE;
        END IF;
        FOR j IN 1 .. cardinality(locked) LOOP
            CONTINUE WHEN needs[j] IS NULL;
            free[j] := free[j] - needs[j];
            got_ids := got_ids || ids[i];
            got_budgets := got_budgets || locked[j];
            got_starts := got_starts || begun[j];
            got_amounts := got_amounts || needs[j];
        END LOOP;
    END LOOP;
    INSERT INTO tracestone.budget_reservations (reservation_id, budget_id, starts, amount, holder, expires_at)
    SELECT got.id, got.budget, got.starts, got.amount, process, now() + make_interval(secs => seconds)
    FROM unnest(got_ids, got_budgets, got_starts, got_amounts) AS got (id, budget, starts, amount);
    UPDATE tracestone.budget_periods AS p SET reserved = p.reserved + sums.amount
    FROM (
        SELECT got.budget, got.starts, sum(got.amount) AS amount
        FROM unnest(got_budgets, got_starts, got_amounts) AS got (budget, starts, amount) GROUP BY 1, 2
    ) AS sums WHERE p.budget_id = sums.budget AND p.starts = sums.starts;
END
$$;

-- Lets the reservations of calls go and counts what each cost, in the period it was reserved in. Safe to repeat.
CREATE FUNCTION tracestone.settle_budgets(
    settlement uuid, ids uuid[], scorers text[], experiments integer[], calls integer[], usd numeric[], tokens numeric[]
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    locked bigint[] := tracestone.lock_budgets(scorers, experiments);
BEGIN
    INSERT INTO tracestone.budget_settlements (settlement_id) VALUES (settlement) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WITH given AS (
        SELECT * FROM unnest(ids, scorers, experiments, usd, tokens) AS each (id, scorer, experiment, usd, tokens)
    ), gone AS (
        DELETE FROM tracestone.budget_reservations AS r WHERE r.reservation_id = ANY (ids)
        RETURNING r.reservation_id, r.budget_id, r.starts, r.amount
    )
    INSERT INTO tracestone.budget_periods AS p (budget_id, starts, spent, reserved)
    SELECT b.budget_id, coalesce(gone.starts, tracestone.budget_starts(b.period, now())),
           coalesce(sum(CASE b.unit WHEN 'usd' THEN given.usd ELSE given.tokens END), 0),
           -coalesce(sum(gone.amount), 0)
    FROM given
    JOIN tracestone.budgets AS b ON b.budget_id = ANY (locked)
      AND b.scorer_name IN ('', given.scorer) AND (b.experiment_id IS NULL OR b.experiment_id = given.experiment)
    LEFT JOIN gone ON gone.reservation_id = given.id AND gone.budget_id = b.budget_id
    GROUP BY 1, 2
    ON CONFLICT (budget_id, starts) DO UPDATE
    SET spent = p.spent + excluded.spent, reserved = p.reserved + excluded.reserved;
    INSERT INTO tracestone.spending AS known (hour, scorer_name, experiment_id, calls, usd, tokens)
    SELECT date_trunc('hour', now(), 'UTC'), each.scorer, each.experiment,
           sum(each.calls), coalesce(sum(each.usd), 0), coalesce(sum(each.tokens), 0)
    FROM unnest(scorers, experiments, calls, usd, tokens) AS each (scorer, experiment, calls, usd, tokens)
    WHERE each.calls > 0
    GROUP BY 2, 3 ORDER BY 2, 3
    ON CONFLICT (hour, scorer_name, experiment_id) DO UPDATE
    SET calls = known.calls + excluded.calls, usd = known.usd + excluded.usd, tokens = known.tokens + excluded.tokens;
END
$$;

-- Wakes what waits for a budget.
CREATE FUNCTION tracestone.wake_capped() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tracestone.budget_changes SET changes = changes + 1;
    UPDATE tracestone.scoring_jobs SET available_at = now() WHERE waiting_for = 'budget' AND available_at > now();
    RETURN NULL;
END
$$;

CREATE FUNCTION tracestone.wake_priced() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM changed) THEN
        UPDATE tracestone.budget_changes SET changes = changes + 1;
        UPDATE tracestone.scoring_jobs SET available_at = now() WHERE waiting_for = 'budget' AND available_at > now();
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER budgets_raised AFTER UPDATE OF cap ON tracestone.budgets
    FOR EACH ROW WHEN (NEW.cap > OLD.cap) EXECUTE FUNCTION tracestone.wake_capped();
CREATE TRIGGER budgets_removed AFTER DELETE ON tracestone.budgets
    FOR EACH ROW EXECUTE FUNCTION tracestone.wake_capped();
CREATE TRIGGER model_prices_told AFTER INSERT ON tracestone.model_prices
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tracestone.wake_priced();
CREATE TRIGGER model_prices_changed AFTER UPDATE ON tracestone.model_prices
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tracestone.wake_priced();
