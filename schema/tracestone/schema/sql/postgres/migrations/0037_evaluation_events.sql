-- blocking, pre: assessments on their way to an OTLP endpoint, and where an assessment came from.

-- Events tell which deployment emitted them, so that none comes home.
CREATE TABLE tracestone.deployment (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    deployment_id uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO tracestone.deployment DEFAULT VALUES;

-- 'event' of an assessment that an OpenTelemetry event brought, which is not emitted again; else NULL.
ALTER TABLE tracestone.assessments ADD COLUMN origin text;

-- When a process that emits was last there. A day after the last has gone nothing is kept for it any more.
CREATE TABLE tracestone.evaluation_emitter (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    seen_at timestamptz NOT NULL
);

-- assessment is the row as it was then. A row goes once the endpoint has taken it.
CREATE TABLE tracestone.evaluation_events (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    assessment jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION tracestone.to_evaluation_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM tracestone.evaluation_emitter AS e WHERE e.seen_at > now() - interval '1 day') THEN
        INSERT INTO tracestone.evaluation_events (assessment) VALUES (to_jsonb(NEW));
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER assessments_told AFTER INSERT ON tracestone.assessments
    FOR EACH ROW WHEN (NEW.kind = 'feedback' AND NEW.origin IS NULL)
    EXECUTE FUNCTION tracestone.to_evaluation_events();
CREATE TRIGGER assessments_told_again AFTER UPDATE ON tracestone.assessments
    FOR EACH ROW WHEN (NEW.kind = 'feedback' AND NEW.origin IS NULL
        AND (OLD.name, OLD.value, OLD.error_code, OLD.rationale)
            IS DISTINCT FROM (NEW.name, NEW.value, NEW.error_code, NEW.rationale))
    EXECUTE FUNCTION tracestone.to_evaluation_events();
