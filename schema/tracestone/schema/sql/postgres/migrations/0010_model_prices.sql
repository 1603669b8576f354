-- not blocking, pre: prices of models that people set or imported, mirrored into ClickHouse through the outbox.
-- What comes with the package is not here: it is read from there.

-- Revisions of a price grow over its removal: were it counted anew, ClickHouse would keep the removed one. Removing takes
-- the number after the row's own, hence the steps of two.
CREATE SEQUENCE tracestone.model_price_revisions INCREMENT BY 2;

-- Prices are USD per million tokens, `image` USD for each, as schema/prices/price.py has them. No foreign key to
-- experiments: one may come and go.
CREATE TABLE tracestone.model_prices (
    scope text NOT NULL CHECK (scope IN ('shipped', 'deployment', 'experiment')),
    experiment_id integer NOT NULL CHECK (scope = 'experiment' OR experiment_id = 0),
    provider text NOT NULL,
    model text NOT NULL CHECK (model <> ''),
    effective_from date NOT NULL,
    prices jsonb NOT NULL,
    tiers jsonb NOT NULL,
    source text NOT NULL,
    revision bigint NOT NULL DEFAULT nextval('tracestone.model_price_revisions'),
    PRIMARY KEY (scope, experiment_id, provider, model, effective_from)
);

CREATE FUNCTION tracestone.next_price_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := nextval('tracestone.model_price_revisions');
    RETURN NEW;
END
$$;

CREATE TRIGGER model_prices_revision BEFORE UPDATE ON tracestone.model_prices
    FOR EACH ROW EXECUTE FUNCTION tracestone.next_price_revision();
CREATE TRIGGER model_prices_mirrored AFTER INSERT OR UPDATE OR DELETE ON tracestone.model_prices
    FOR EACH ROW EXECUTE FUNCTION tracestone.to_outbox();
