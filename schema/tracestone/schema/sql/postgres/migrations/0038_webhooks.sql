-- not blocking, pre: webhooks, what is to be delivered to them, and the alerts that were raised.

-- secret is needed to sign, so it is kept as it is; nothing shows it again. '' and NULL of the filters stand for everything.
CREATE TABLE tracestone.webhooks (
    webhook_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (char_length(name) BETWEEN 1 AND 100),
    url text NOT NULL CHECK (char_length(url) <= 2000),
    secret text NOT NULL,
    events text[] NOT NULL,
    scorer_name text NOT NULL DEFAULT '',
    experiment_id integer REFERENCES tracestone.experiments,
    errors text NOT NULL DEFAULT 'any' CHECK (errors IN ('any', 'only', 'none')),
    value_is text,
    below double precision,
    above double precision
);

-- message_id is the same at every try, and says what happened: the same thing is delivered to a webhook once.
CREATE TABLE tracestone.webhook_deliveries (
    delivery_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook_id bigint NOT NULL REFERENCES tracestone.webhooks ON DELETE CASCADE,
    message_id text NOT NULL,
    payload jsonb NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    available_at timestamptz NOT NULL DEFAULT now(),
    dead boolean NOT NULL DEFAULT false,
    error text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (webhook_id, message_id)
);

CREATE INDEX webhook_deliveries_ready ON tracestone.webhook_deliveries (webhook_id, available_at) WHERE NOT dead;

-- What was told of once and is not told again.
CREATE TABLE tracestone.alerts (
    alert_key text PRIMARY KEY,
    raised_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION tracestone.webhook_payload(type text, data jsonb) RETURNS jsonb LANGUAGE sql STABLE
RETURN jsonb_build_object(
    'type', type, 'timestamp', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'data', data);

-- true and yes are 1, false and no are 0, a number is itself, unless it is larger than a double can be.
CREATE FUNCTION tracestone.as_number(value jsonb) RETURNS double precision LANGUAGE sql IMMUTABLE
RETURN CASE jsonb_typeof(value)
    WHEN 'number' THEN CASE WHEN abs(value::numeric) < 1e300 THEN value::numeric::double precision END
    WHEN 'boolean' THEN CASE WHEN value = 'true' THEN 1 ELSE 0 END
    WHEN 'string' THEN CASE lower(trim(value #>> '{}'))
        WHEN 'true' THEN 1 WHEN 'yes' THEN 1 WHEN 'false' THEN 0 WHEN 'no' THEN 0 END
END;

CREATE FUNCTION tracestone.to_webhooks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM tracestone.webhooks) THEN
        RETURN NULL;
    END IF;
    INSERT INTO tracestone.webhook_deliveries (webhook_id, message_id, payload)
    SELECT w.webhook_id, 'msg_' || NEW.assessment_id || '_' || NEW.revision, tracestone.webhook_payload('assessment',
        jsonb_build_object(
            'assessment_id', NEW.assessment_id, 'revision', NEW.revision, 'name', NEW.name, 'kind', NEW.kind,
            'experiment_id', NEW.experiment_id, 'target_type', NEW.target_type, 'trace_id', NEW.trace_id,
            'span_id', NEW.span_id, 'session_id', NEW.session_id, 'value', NEW.value,
            'rationale', left(NEW.rationale, 4000), 'source_type', NEW.source_type, 'source_id', NEW.source_id,
            'error', CASE WHEN NEW.error_code <> ''
                THEN jsonb_build_object('code', NEW.error_code, 'message', left(NEW.error_message, 4000)) END,
            'scorer', nullif(NEW.scorer_name, ''), 'scorer_version', NEW.scorer_version,
            'probability', NEW.probability, 'cost_usd', NEW.cost_usd))
    FROM tracestone.webhooks AS w
    WHERE 'assessment' = ANY (w.events)
      AND w.scorer_name IN ('', NEW.scorer_name)
      AND (w.experiment_id IS NULL OR w.experiment_id = NEW.experiment_id)
      AND CASE w.errors WHEN 'only' THEN NEW.error_code <> '' WHEN 'none' THEN NEW.error_code = '' ELSE true END
      AND (w.value_is IS NULL OR w.value_is = NEW.value #>> '{}')
      AND (w.below IS NULL OR tracestone.as_number(NEW.value) < w.below)
      AND (w.above IS NULL OR tracestone.as_number(NEW.value) > w.above)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER assessments_to_webhooks AFTER INSERT ON tracestone.assessments
    FOR EACH ROW EXECUTE FUNCTION tracestone.to_webhooks();
CREATE TRIGGER assessments_to_webhooks_again AFTER UPDATE ON tracestone.assessments
    FOR EACH ROW WHEN ((OLD.name, OLD.value, OLD.error_code, OLD.rationale)
        IS DISTINCT FROM (NEW.name, NEW.value, NEW.error_code, NEW.rationale))
    EXECUTE FUNCTION tracestone.to_webhooks();

-- Tells of something once for each key.
CREATE FUNCTION tracestone.raise_alert(key text, type text, data jsonb) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_variable
BEGIN
    IF NOT EXISTS (SELECT FROM tracestone.webhooks AS w WHERE type = ANY (w.events)) THEN
        RETURN;
    END IF;
    INSERT INTO tracestone.alerts (alert_key) VALUES (key) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        INSERT INTO tracestone.webhook_deliveries (webhook_id, message_id, payload)
        SELECT w.webhook_id, 'msg_' || md5(key), tracestone.webhook_payload(type, data) FROM tracestone.webhooks AS w
        WHERE type = ANY (w.events)
          AND (w.scorer_name = '' OR coalesce(data ->> 'scorer', w.scorer_name) = w.scorer_name)
          AND (w.experiment_id IS NULL
               OR coalesce((data ->> 'experiment_id')::integer, w.experiment_id) = w.experiment_id)
        ON CONFLICT DO NOTHING;
    END IF;
END
$$;

CREATE FUNCTION tracestone.alert_of_budget() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    budget tracestone.budgets;
    kind text;
BEGIN
    SELECT * INTO budget FROM tracestone.budgets AS b WHERE b.budget_id = NEW.budget_id;
    kind := CASE WHEN NEW.spent >= budget.cap THEN 'budget.exhausted'
                 WHEN NEW.spent >= 0.8 * budget.cap THEN 'budget.warning' END;
    IF kind IS NOT NULL THEN
        PERFORM tracestone.raise_alert(format('%s/%s/%s/%s', kind, NEW.budget_id, NEW.starts, budget.cap), kind,
            jsonb_build_object('budget', NEW.budget_id, 'scorer', nullif(budget.scorer_name, ''),
                'experiment_id', budget.experiment_id, 'unit', budget.unit, 'per', budget.period, 'cap', budget.cap,
                'spent', NEW.spent, 'period_start', NEW.starts));
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER budgets_alert AFTER UPDATE ON tracestone.budget_periods
    FOR EACH ROW WHEN (NEW.spent > OLD.spent) EXECUTE FUNCTION tracestone.alert_of_budget();

-- A job that is put off: the rest of its budget is too little for its call, or its provider's breaker is open.
CREATE FUNCTION tracestone.alert_of_wait() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    budget tracestone.budgets;
    starts date;
    provider text;
BEGIN
    IF NEW.waiting_for = 'budget' AND NEW.waiting_reason LIKE '%the budget of this period is spent' THEN
        SELECT * INTO budget FROM tracestone.budgets AS b WHERE b.budget_id = NEW.waiting_budget;
        starts := tracestone.budget_starts(budget.period, now());
        PERFORM tracestone.raise_alert(
            format('budget.exhausted/%s/%s/%s', NEW.waiting_budget, starts, budget.cap), 'budget.exhausted',
            jsonb_build_object('budget', budget.budget_id, 'scorer', nullif(budget.scorer_name, ''),
                'experiment_id', budget.experiment_id, 'unit', budget.unit, 'per', budget.period, 'cap', budget.cap,
                'period_start', starts, 'reason', NEW.waiting_reason));
    ELSIF NEW.waiting_for = 'provider' AND NEW.waiting_reason LIKE 'calls of % are stopped: %' THEN
        provider := substring(NEW.waiting_reason FROM 'calls of (.*?) are stopped: ');
        PERFORM tracestone.raise_alert(
            format('provider.down/%s/%s', provider, date_trunc('hour', now())), 'provider.down',
            jsonb_build_object('provider', provider, 'reason', NEW.waiting_reason));
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER scoring_jobs_alert AFTER UPDATE OF waiting_for ON tracestone.scoring_jobs
    FOR EACH ROW WHEN (NEW.waiting_for <> '') EXECUTE FUNCTION tracestone.alert_of_wait();

CREATE FUNCTION tracestone.alert_of_look() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    config tracestone.online_configs;
BEGIN
    SELECT * INTO config FROM tracestone.online_configs AS c WHERE c.config_id = NEW.config_id;
    PERFORM tracestone.raise_alert(
        format('scorer.stopped/%s/%s', NEW.config_id, date_trunc('hour', now())), 'scorer.stopped',
        jsonb_build_object(
            'scorer', config.scorer_name, 'experiment_id', config.experiment_id, 'reason', NEW.error));
    RETURN NULL;
END
$$;

CREATE TRIGGER scoring_progress_alert AFTER UPDATE OF error ON tracestone.scoring_progress
    FOR EACH ROW WHEN (NEW.error <> '' AND OLD.error = '') EXECUTE FUNCTION tracestone.alert_of_look();

CREATE FUNCTION tracestone.alert_of_dead_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tracestone.raise_alert(
        format('job.dead/%s/%s/%s', NEW.scorer_name, NEW.code, date_trunc('hour', now())), 'job.dead',
        jsonb_build_object('scorer', NEW.scorer_name, 'experiment_id', NEW.experiment_id, 'trace_id', NEW.trace_id,
            'code', NEW.code, 'message', left(NEW.message, 4000)));
    RETURN NULL;
END
$$;

CREATE TRIGGER scoring_dead_jobs_alert AFTER UPDATE OF code ON tracestone.scoring_dead_jobs
    FOR EACH ROW WHEN (NEW.code <> '' AND OLD.code = '') EXECUTE FUNCTION tracestone.alert_of_dead_job();
