-- blocking, pre: how many jobs of one online configuration may run at once, and what of its targets one user may have.

-- Over all workers; a missing one bounds nothing.
ALTER TABLE tracestone.online_configs ADD COLUMN concurrency integer CHECK (concurrency >= 1);

-- An SQL expression over the target, '' for none, and how many targets of each of its values are to be chosen in an hour.
ALTER TABLE tracestone.online_configs
    ADD COLUMN fair_by text NOT NULL DEFAULT '',
    ADD COLUMN fair_per_hour double precision CHECK (fair_per_hour > 0);

-- Which configuration chose the target; a backfill's jobs have none. `limited` says that it bounds how many run: claims of
-- other jobs pass these by in the index, however many there are.
ALTER TABLE tracestone.scoring_jobs
    ADD COLUMN config_id bigint,
    ADD COLUMN limited boolean NOT NULL DEFAULT false;

DROP INDEX tracestone.scoring_jobs_by_priority;
CREATE INDEX scoring_jobs_by_priority ON tracestone.scoring_jobs (priority DESC, available_at, job_id) WHERE NOT limited;
CREATE INDEX scoring_jobs_limited ON tracestone.scoring_jobs (config_id, priority DESC, available_at, job_id)
    WHERE limited;
CREATE INDEX scoring_jobs_by_config ON tracestone.scoring_jobs (config_id) WHERE config_id IS NOT NULL;

-- Triggers, not callers, keep the mark: it must be right for whoever writes a job or a configuration.
CREATE FUNCTION tracestone.mark_limited_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.limited := EXISTS (
        SELECT FROM tracestone.online_configs AS c WHERE c.config_id = NEW.config_id AND c.concurrency IS NOT NULL);
    RETURN NEW;
END
$$;

CREATE TRIGGER scoring_jobs_limited_or_not BEFORE INSERT ON tracestone.scoring_jobs
    FOR EACH ROW EXECUTE FUNCTION tracestone.mark_limited_job();

-- Looks under way may be adding jobs by the configuration as it was; they hold the progress, so they are waited for.
CREATE FUNCTION tracestone.mark_limited_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM tracestone.scoring_progress AS p WHERE p.config_id = OLD.config_id FOR UPDATE;
    UPDATE tracestone.scoring_jobs AS job SET limited = (TG_OP = 'UPDATE' AND NEW.concurrency IS NOT NULL)
    WHERE job.config_id = OLD.config_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER online_configs_limit_changed AFTER UPDATE OF concurrency ON tracestone.online_configs
    FOR EACH ROW WHEN ((OLD.concurrency IS NULL) <> (NEW.concurrency IS NULL))
    EXECUTE FUNCTION tracestone.mark_limited_jobs();
CREATE TRIGGER online_configs_limit_gone AFTER DELETE ON tracestone.online_configs
    FOR EACH ROW WHEN (OLD.concurrency IS NOT NULL) EXECUTE FUNCTION tracestone.mark_limited_jobs();
