"""Statements that a replica must take, in the order in which they are sent."""

from __future__ import annotations

_READS_EVERYWHERE = [
    "SELECT 1",
    "SELECT 1;",
    "select name from app_item where id = 1",
    "SELECT 'INSERT INTO app_item; DELETE FOR UPDATE' AS x",
    "SELECT 'it''s' AS x -- DELETE",
    "SELECT /* DELETE FROM app_item; */ 1",
    "SELECT 1 AS x WHERE 'for update' <> 'lock in share mode'",
    "SELECT COUNT(*) FROM app_item WHERE id IN (1, 2, 3) AND NOT (name LIKE 'a%%')",
    "SELECT COUNT(DISTINCT (name)) FROM app_item",
    "SELECT i.id, (SELECT MAX(p.id) FROM app_piece p WHERE p.item_id = i.id) FROM app_item i ORDER BY i.id LIMIT 5",
    (
        "SELECT i.id FROM app_item i LEFT OUTER JOIN app_piece p ON (p.item_id = i.id) GROUP BY i.id "
        "HAVING COUNT(p.id) >= 0"
    ),
    "SELECT name FROM app_item UNION ALL SELECT name FROM app_tag ORDER BY 1",
    "SELECT CASE WHEN (id > 1) THEN UPPER(name) ELSE LOWER(name) END FROM app_item",
    "SELECT CAST(id AS decimal(10, 2)), COALESCE(name, ''), NULLIF(name, 'a') FROM app_item",
    "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
    "WITH x (a, b) AS (SELECT 1, 2), y (c) AS (SELECT a FROM x) SELECT c FROM y",
    "WITH RECURSIVE x (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < 5) SELECT n FROM x",
    "SELECT a FROM (WITH x (a) AS (SELECT 1) SELECT a FROM x) AS y",
    "SELECT ROW_NUMBER() OVER (PARTITION BY name ORDER BY id), RANK() OVER (ORDER BY id) FROM app_item",
    "SELECT SUM(id) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM app_item",
    "SELECT LAG(id, 1) OVER w, FIRST_VALUE(id) OVER w FROM app_item WINDOW w AS (ORDER BY id)",
    "SELECT ABS(-1), ROUND(1.5), LENGTH(name), REPLACE(name, 'a', 'b'), TRIM(name) FROM app_item",
    "SELECT AVG(id), MIN(id), MAX(id), SUM(id) FROM app_item",
    "SELECT EXISTS(SELECT 1 FROM app_item WHERE id = 1)",
    "SELECT 1 FROM app_item WHERE EXISTS (SELECT 1) AND id BETWEEN (1) AND (5)",
    "EXPLAIN SELECT * FROM app_item",
    "SELECT id FROM app_item WHERE name = 'a' AND (id, id) IN ((1, 1), (2, 2))",
    "SELECT 1e5, 1.5e-3, .5, 5. FROM app_item",
    "BEGIN",
    "SAVEPOINT x",
    "SELECT COUNT(*) FROM app_item",
    "ROLLBACK TO SAVEPOINT x",
    "RELEASE SAVEPOINT x",
    "COMMIT",
    "BEGIN",
    "ROLLBACK",
    "VALUES (1), (2)",
]

_READS_SERVERS = [
    "SELECT NOW(), CURRENT_TIMESTAMP, CURRENT_DATE, EXTRACT(YEAR FROM NOW())",
    "SELECT CONCAT(name, 'x'), CONCAT_WS(',', name, 'x'), LEFT(name, 1), RIGHT(name, 1) FROM app_item",
    "SELECT SUBSTRING(name FROM 1 FOR 2), POSITION('a' IN name), LPAD(name, 5, 'x'), REPEAT(name, 2) FROM app_item",
    "SELECT VERSION()",
    "SELECT GREATEST(1, 2), LEAST(1, 2), MOD(5, 2), POWER(2, 3), SQRT(4), LN(2), EXP(1), CEIL(1.5), FLOOR(1.5)",
    "SELECT STDDEV_POP(id), VAR_SAMP(id) FROM app_item",
    "SELECT table_name FROM information_schema.tables WHERE table_name = 'app_item'",
    "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'app_item'",
    "SELECT REVERSE('abc'), ASCII('a'), COT(1), PI(), DEGREES(1), RADIANS(1), SIGN(-1)",
    "START TRANSACTION READ ONLY",
    "COMMIT",
    "SELECT x.a FROM (SELECT 1) AS x (a)",
]

_READS_MYSQL = [
    *(read.replace("VALUES (1), (2)", "SELECT 2") for read in _READS_EVERYWHERE),
    *_READS_SERVERS[:-1],
    "(SELECT name FROM app_item) UNION (SELECT name FROM app_tag)",
    "SET NAMES utf8mb4",
    "SELECT 0x1F, 0b1, x'1F', 1 + 1",
    "SET time_zone = '+00:00'",
    "SET SESSION sql_mode = @@GLOBAL.sql_mode",
    "SET SQL_AUTO_IS_NULL = 0",
    "SET SQL_AUTO_IS_NULL = 0; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET SESSION TRANSACTION READ ONLY",
    "SET foreign_key_checks = 0",
    "SET @a = 5, @b := (SELECT COUNT(*) FROM app_item)",
    "SELECT @@version, @@sql_mode, @@default_storage_engine, @@sql_auto_is_null, @@lower_case_table_names",
    "SELECT @row := 1, @row",
    "SELECT CONNECTION_ID(), DATABASE(), USER(), LAST_INSERT_ID(), FOUND_ROWS(), ROW_COUNT()",
    "SELECT CONVERT_TZ(NOW(), '+00:00', '+02:00'), CONVERT(name USING utf8mb4) FROM app_item",
    (
        "SELECT DATE_FORMAT(NOW(), '%%Y-%%m-01'), DATE_ADD(NOW(), INTERVAL 5 DAY), "
        "TIMESTAMPDIFF(MICROSECOND, NOW(), NOW())"
    ),
    (
        "SELECT YEARWEEK(NOW(), 3), WEEKDAY(NOW()), DAYOFWEEK(NOW()), MAKEDATE(2020, 5), "
        "TIME_TO_SEC(NOW()), LAST_DAY(NOW())"
    ),
    "SELECT GROUP_CONCAT(DISTINCT name ORDER BY name SEPARATOR ','), BIT_AND(id), STD(id) FROM app_item",
    "SELECT JSON_EXTRACT('{\"a\": 1}', '$.a'), JSON_UNQUOTE('\"a\"'), JSON_CONTAINS('[1]', '1'), JSON_OBJECT('a', 1)",
    "SELECT JSON_KEYS('{\"a\": 1}'), JSON_LENGTH('[1]'), JSON_SET('{}', '$.a', 1), JSON_ARRAYAGG(id) FROM app_item",
    "SELECT x.a FROM JSON_TABLE('[1, 2]', '$[*]' COLUMNS (a INT PATH '$')) AS x",
    "SELECT name FROM app_item WHERE name REGEXP 'a.*' OR name RLIKE 'b' OR REGEXP_REPLACE(name, 'a', 'b') = 'c'",
    "SELECT name FROM app_item WHERE name LIKE BINARY 'a' AND name COLLATE utf8mb4_bin = 'a'",
    "SELECT SHA2('x', 224), HEX('x'), UNHEX('78'), CRC32('x'), TO_BASE64('x'), ORD('x'), CHAR(65 USING utf8mb4)",
    (
        "SELECT IF(1 = 1, 2, 3), IFNULL(NULL, 1), INSTR('abc', 'b'), LOCATE('b', 'abc'), INSERT('abc', "
        "1, 1, 'x'), FIELD(1, 2)"
    ),
    "SELECT CONCAT(INSERT('abc', 1, 1, 'x')), ELT(1, 'a'), MID('abc', 1, 1), SUBSTRING_INDEX('a.b', '.', 1)",
    "SELECT RAND(), UUID(), SLEEP(0), BENCHMARK(1, 1)",
    "SELECT ST_AsText(ST_GeomFromText('POINT(1 1)')), ST_X(ST_GeomFromText('POINT(1 1)'))",
    "SELECT ST_Distance(ST_GeomFromText('POINT(1 1)'), POINT(1, 2)), MBRContains(POINT(1, 1), POINT(1, 1))",
    "SELECT SQL_NO_CACHE * FROM app_item FORCE INDEX (PRIMARY) WHERE id = 1",
    "SELECT /*+ MAX_EXECUTION_TIME(1000) */ 1",
    "SELECT * FROM app_item USE INDEX FOR ORDER BY (PRIMARY) ORDER BY id",
    "SELECT 'it\\'s', \"a\", 'a\\\\'",
    "SELECT ! 1 , 5 DIV 2, 5 % 2, 1 XOR 0 # DELETE",
    "SELECT 1 -- DELETE FROM app_item",
    "SELECT INET_ATON('127.0.0.1'), FORMAT(1.5, 2), SOUNDEX('x'), STRCMP('a', 'b'), QUOTE('x'), BIN(5), CONV(5, 10, 2)",
    "SHOW TABLES",
    "SHOW FULL TABLES",
    "SHOW VARIABLES LIKE 'max_connections'",
    "SHOW CREATE TABLE app_item",
    "SHOW COLUMNS FROM app_item",
    "SHOW INDEX FROM app_item",
    "DESCRIBE app_item",
    "DESC `app_item`",
    "EXPLAIN FORMAT=JSON SELECT * FROM app_item",
    "CHECKSUM TABLE app_item",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    "COMMIT",
    "SELECT kc.constraint_name FROM information_schema.key_column_usage AS kc WHERE kc.table_schema = DATABASE()",
    "SELECT table_rows, update_time FROM information_schema.tables WHERE table_schema = DATABASE()",
]

READS: dict[str, list[str]] = {
    "mysql": [
        *_READS_MYSQL,
        "SELECT ANY_VALUE(name), BIN_TO_UUID(UUID_TO_BIN(UUID())), GTID_SUBSET('', '') FROM app_item",
        "SELECT x.a FROM (SELECT 1) AS x (a)",
        "SELECT x.a FROM (SELECT 1) x (a), LATERAL (SELECT x.a) AS y (b)",
        (
            "SELECT REGEXP_LIKE('a', 'b'), REGEXP_SUBSTR('a', 'a'), JSON_VALUE('{}', '$.a'), "
            "GROUPING(name) FROM app_item GROUP BY name WITH ROLLUP"
        ),
        "SELECT 1 MEMBER OF ('[1]'), JSON_OVERLAPS('[1]', '[1]')",
        "TABLE app_item",
        "VALUES ROW(1), ROW(2)",
        "EXPLAIN ANALYZE SELECT * FROM app_item",
        "SELECT @@GLOBAL.gtid_executed",
    ],
    "mariadb": [
        *_READS_MYSQL,
        "SET STATEMENT max_statement_time = 5 FOR SELECT * FROM app_item",
        "ANALYZE FORMAT=JSON SELECT * FROM app_item",
        "SELECT REGEXP_SUBSTR('a', 'a'), JSON_VALUE('{}', '$.a'), JSON_DETAILED('{}'), NVL(NULL, 1), CHR(65)",
        "SELECT MEDIAN(id) OVER (PARTITION BY name) FROM app_item",
        "VALUES (1), (2)",
        "SELECT @@gtid_slave_pos",
        "SELECT name FROM app_item GROUP BY name WITH ROLLUP",
        "SELECT id FROM app_item OFFSET 0 ROWS FETCH FIRST 1 ROWS ONLY",
        "SELECT COUNT(*) FROM app_sequence",
    ],
    "postgresql": [
        *_READS_EVERYWHERE,
        *_READS_SERVERS,
        "(SELECT name FROM app_item) UNION (SELECT name FROM app_tag)",
        "SET search_path TO public, pg_catalog",
        "SET TIME ZONE 'UTC'",
        "SET timezone = 'UTC'",
        "SET statement_timeout = '5s'",
        "SET default_transaction_read_only = on",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SET LOCAL work_mem = '4MB'",
        "RESET search_path",
        "SELECT set_config('TimeZone', 'UTC', false)",
        "SHOW timezone",
        "SHOW ALL",
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "COMMIT",
        "SELECT 'ends with a backslash \\'",
        "SELECT E'it\\'s', U&'d\\0061ta', $$a ' ; DELETE$$, $a$ $$ $a$, B'101', X'1F'",
        "SELECT name FROM app_item WHERE name LIKE 'a' ESCAPE '\\'",
        "SELECT REPLACE(REPLACE(REPLACE(name, E'\\\\', E'\\\\\\\\'), E'%%', E'\\\\%%'), E'_', E'\\\\_') FROM app_item",
        "SELECT UPPER(name::text) LIKE UPPER('a'), name::varchar(10), id::numeric(10, 2), '{1}'::int[] FROM app_item",
        "SELECT DISTINCT ON (name) name, LOWER(name) FROM app_item",
        "SELECT DISTINCT ON (name) COALESCE(name, 'a') FROM app_item",
        "SELECT g.n FROM generate_series(1, 3) AS g (n)",
        "SELECT * FROM generate_series(now() - interval '1 day', now(), '1 hour')",
        "SELECT a, b FROM unnest(ARRAY[1, 2], ARRAY['a', 'b']) WITH ORDINALITY AS x (a, b, c)",
        "SELECT place FROM unnest(ARRAY[1, 2]) WITH ORDINALITY x(a, place)",
        "SELECT v.a FROM (VALUES (1, 'a'), (2, 'b')) v (a, b)",
        "SELECT * FROM json_to_recordset('[{\"a\": 1}]') AS x (a int, b text)",
        "SELECT * FROM ROWS FROM (generate_series(1, 2), unnest(ARRAY[1])) AS x (a, b)",
        "SELECT x.a FROM app_item i, LATERAL (SELECT i.id) AS x (a)",
        (
            "SELECT ARRAY_AGG(name ORDER BY id), STRING_AGG(name, ',' ORDER BY id), JSONB_AGG(name), "
            "BOOL_OR(id > 1) FROM app_item"
        ),
        "SELECT ARRAY_AGG(name) FILTER (WHERE id > 1), PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY id) FROM app_item",
        "SELECT CORR(id, id), REGR_SLOPE(id, id), COVAR_POP(id, id), BIT_XOR(id), EVERY(id > 1) FROM app_item",
        "SELECT name, COUNT(*) FROM app_item GROUP BY GROUPING SETS ((name), ()), CUBE (name)",
        (
            "SELECT to_tsvector('english', name) @@ plainto_tsquery('a'), ts_rank(to_tsvector(name), "
            "to_tsquery('a')) FROM app_item"
        ),
        (
            "SELECT ts_headline(name, websearch_to_tsquery('a')), setweight(to_tsvector(name), 'A'), "
            "phraseto_tsquery('a b') FROM app_item"
        ),
        (
            "SELECT jsonb_path_query_first('{}', '$.a'), jsonb_set('{}', '{a}', '1'), "
            "jsonb_build_object('a', 1), '{}'::jsonb ? 'a'"
        ),
        "SELECT key, value FROM jsonb_each_text('{\"a\": 1}')",
        (
            "SELECT DATE_TRUNC('day', now() AT TIME ZONE 'UTC'), AGE(now()), TO_CHAR(now(), 'YYYY'), "
            "MAKE_INTERVAL(days => 5)"
        ),
        (
            "SELECT EXTRACT(EPOCH FROM now())::bigint, date_part('isodow', now()), clock_timestamp(), "
            "statement_timestamp()"
        ),
        "SELECT gen_random_uuid(), random(), pg_backend_pid(), current_setting('server_version'), pg_sleep(0)",
        (
            "SELECT encode(sha256('x'), 'hex'), CHR(65), STRPOS('abc', 'b'), BTRIM(' a '), "
            "INITCAP('a'), SPLIT_PART('a.b', '.', 1)"
        ),
        (
            "SELECT name ~ 'a.*', name SIMILAR TO ('a%%'), REGEXP_REPLACE(name, 'a', 'b'), "
            "REGEXP_MATCH(name, 'a') FROM app_item"
        ),
        (
            "SELECT daterange('2020-01-01', '2020-02-01') && '[2020-01-01,2020-01-02)'::daterange, "
            "lower_inc(int4range(1, 2)), isempty(int8range(1, 1))"
        ),
        "SELECT COLLATION FOR ('a'::text), pg_typeof(1), format('%%s', 1), quote_ident('a')",
        (
            "SELECT c.relname, pg_get_indexdef(c.oid) FROM pg_catalog.pg_class c WHERE "
            "pg_catalog.pg_table_is_visible(c.oid) LIMIT 5"
        ),
        "SELECT pg_get_constraintdef(c.oid), array_length(c.conkey, 1) FROM pg_constraint c LIMIT 5",
        (
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid) "
            "FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid LIMIT 5"
        ),
        (
            "SELECT pg_get_serial_sequence('app_item', 'id'), pg_relation_size('app_item'), "
            "obj_description('app_item'::regclass)"
        ),
        "SELECT last_value FROM app_item_id_seq",
        "SELECT * FROM pg_locks WHERE locktype = 'advisory'",
        "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn(), txid_current_snapshot(), inet_client_addr()",
        "SELECT * FROM app_item TABLESAMPLE BERNOULLI (50) REPEATABLE (1)",
        "SELECT * FROM app_item OFFSET 0 FETCH FIRST (5) ROWS ONLY",
        "SELECT xmlelement(name a, 'b'), xpath('/a', '<a/>')",
        "SELECT COUNT(*) FROM app_item AS t (a, b)",
        "SELECT CAST(id AS numeric(5)) FROM app_item",
        "WITH x AS MATERIALIZED (SELECT 1 AS a), y AS NOT MATERIALIZED (SELECT 2 AS b) SELECT * FROM x, y",
        (
            "WITH RECURSIVE x (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < 3) SEARCH DEPTH "
            "FIRST BY n SET o SELECT n FROM x"
        ),
        "TABLE app_item",
        "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM app_item",
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM app_item",
        "EXPLAIN (COSTS OFF) WITH x AS (SELECT 1) SELECT * FROM x",
        "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM app_item",
        "FETCH FORWARD 5 FROM c",
        "MOVE 1 FROM c",
        "CLOSE c",
        "DEALLOCATE ALL",
        "COPY app_item TO STDOUT",
        "COPY app_item (id, name) TO STDOUT WITH (FORMAT csv)",
        "COPY (SELECT id, upper(name) FROM app_item) TO STDOUT (FORMAT csv)",
    ],
    "sqlite": [
        *_READS_EVERYWHERE,
        "BEGIN DEFERRED TRANSACTION",
        "END",
        "PRAGMA foreign_keys",
        "PRAGMA foreign_keys = ON",
        "PRAGMA query_only",
        "PRAGMA query_only = 1",
        "PRAGMA query_only(1)",
        "PRAGMA table_info(app_item)",
        "PRAGMA table_info('app_item')",
        "PRAGMA table_xinfo(app_item)",
        "PRAGMA index_list(app_item)",
        "PRAGMA foreign_key_list(app_piece)",
        "PRAGMA foreign_key_check",
        "PRAGMA foreign_key_check(app_item)",
        "PRAGMA main.table_info(app_item)",
        "PRAGMA legacy_alter_table = OFF",
        "PRAGMA journal_mode",
        "PRAGMA user_version",
        "PRAGMA busy_timeout = 5000",
        "PRAGMA cache_size = -2000",
        "PRAGMA integrity_check",
        "PRAGMA compile_options",
        "SELECT name FROM pragma_table_info('app_item')",
        "SELECT * FROM pragma_database_list",
        "SELECT sql FROM sqlite_master WHERE type = 'table'",
        "SELECT name FROM app_item WHERE name LIKE 'a' ESCAPE '\\'",
        "SELECT REPLACE(REPLACE(REPLACE(name, '\\', '\\\\'), '%%', '\\%%'), '_', '\\_') FROM app_item",
        'SELECT [name], `name`, "name" FROM app_item',
        (
            "SELECT django_date_trunc('day', '2020-01-01', NULL, NULL), django_datetime_extract('year', "
            "'2020-01-01', NULL, NULL)"
        ),
        (
            "SELECT REGEXP('a', 'a'), name REGEXP 'a', MD5('x'), SHA256('x'), LPAD('a', 2, 'x'), "
            "REVERSE('ab') FROM app_item"
        ),
        "SELECT STDDEV_POP(id), VAR_POP(id), GROUP_CONCAT(name, ','), TOTAL(id) FROM app_item",
        (
            "SELECT json_extract('{}', '$.a'), JSON('{}'), JSON_TYPE('{}', '$'), JSON_VALID('1'), "
            "json_group_array(id) FROM app_item"
        ),
        "SELECT x.value FROM json_each('[1, 2]') AS x",
        "SELECT key, value FROM json_tree('[1]')",
        "SELECT date('now'), datetime('now'), strftime('%%Y', 'now'), julianday('now'), time('now'), unixepoch('now')",
        (
            "SELECT IIF(1, 2, 3), IFNULL(NULL, 1), INSTR('abc', 'b'), SUBSTR('abc', 1), PRINTF('%%d', "
            "1), TYPEOF(1), HEX('x')"
        ),
        "SELECT last_insert_rowid(), changes(), total_changes(), random(), randomblob(1), sqlite_version()",
        "SELECT CAST('1' AS NUMERIC), MOD(5, 2), BITXOR(1, 2), ATAN2(1, 2), POWER(2, 2), LOG(2, 4), SQRT(4), SIGN(1)",
        "EXPLAIN QUERY PLAN SELECT * FROM app_item",
    ],
}
