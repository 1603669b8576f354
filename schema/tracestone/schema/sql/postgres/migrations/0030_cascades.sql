-- blocking, pre: online configurations that come after another scorer.

-- after_scorer '' is none; a missing after_version stands for the newest that has judged a target.
ALTER TABLE tracestone.online_configs
    ADD COLUMN after_scorer text NOT NULL DEFAULT '',
    ADD COLUMN after_version integer;
