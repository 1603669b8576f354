-- not blocking, pre: which version a sweep accounts its present window under.

-- Written before the first decision of a window is, and removed when the look is past it: whoever takes up the window of
-- a process that was killed in it uses the same version, so that nothing is accounted for under two. No foreign key: it
-- is written while the look is held, and a configuration that is being deleted holds its row and waits for the look.
CREATE TABLE tracestone.scoring_windows (
    config_id bigint PRIMARY KEY,
    scorer_version integer NOT NULL
);
