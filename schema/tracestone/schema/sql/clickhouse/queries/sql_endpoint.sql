-- What the read-only SQL endpoint asks the engine itself: how a reader's statement parses, and what exists.

-- name: canonical_statement
-- One statement as the engine's own parser writes it: without comments, names and texts quoted one way.
SELECT formatQuerySingleLine({statement:String})

-- name: syntax_tree
-- Prefix of a canonical statement: the nodes of its syntax tree, one per line, indented by depth.
EXPLAIN AST

-- name: use_database
-- Prefix of a quoted database name: where unqualified table names are looked up.
USE

-- name: apply_settings
-- Prefix of a list of settings: the limits of one connection.
SET

-- name: functions
-- Every function this engine knows.
SELECT name, alias_to, is_aggregate, categories FROM system.functions

-- name: table_functions
-- Every table function this engine knows.
SELECT name FROM system.table_functions

-- name: output_formats
-- Every format an answer may be written in.
SELECT name FROM system.formats WHERE is_output

-- name: settings
-- Every setting this engine knows.
SELECT name FROM system.settings

-- name: columns
-- The columns of one table of the current database.
SELECT name FROM system.columns WHERE database = currentDatabase() AND table = {table:String}

-- name: engine
-- What the answer's headers say about the engine.
SELECT version() AS version, timezone() AS timezone

-- name: cancel
-- Ends the running statements of one mark; a reader's connection carries its mark as its log_comment.
KILL QUERY WHERE Settings['log_comment'] = {mark:String} ASYNC
