"""Statements from public reports and from attacks: some passed once, safe ones were refused; and their neighbours."""

from __future__ import annotations

#: Users' functions that are named as another server's keywords or functions: they lock, see ``FUNCTIONS``.
NAMES = {
    "mysql": [
        "unnest",
        "placing",
        "jsonb",
        "glob",
        "bpchar",
        "ilike",
        "overlay",
        "area",
        "x",
        "lastval",
        "nvl",
        "count",
    ],
    "mariadb": [
        "unnest",
        "placing",
        "jsonb",
        "glob",
        "bpchar",
        "ilike",
        "lateral",
        "array",
        "any_value",
        "count",
        "now",
    ],
    "postgresql": ["key", "use", "ignore", "force", "over", "filter", "sets", "escape", "ilike", "by", "zone", "mod_"],
}
#: How a function of the user's own that locks is made.
FUNCTIONS = {
    "mysql": "CREATE FUNCTION `{}`(a INT) RETURNS INT DETERMINISTIC RETURN GET_LOCK('guard', 0)",
    "mariadb": "CREATE FUNCTION `{}`(a INT) RETURNS INT DETERMINISTIC RETURN GET_LOCK('guard', 0)",
    "postgresql": (
        'CREATE FUNCTION "{}"(a int) RETURNS int LANGUAGE plpgsql AS '
        "$$ BEGIN PERFORM pg_advisory_lock(77); RETURN 1; END $$"
    ),
}


def _nested(count: int, text: str) -> str:
    return "SELECT " + "(" * count + text + ")" * count


#: Those with a space: MySQL and MariaDB then call the user's function.
_SPACED = ("count", "now")
_OF_NAMES = {
    engine: [
        text
        for name in names
        for call in ([f"{name} (1)", f"{name}/**/(1)"] if name in _SPACED else [f"{name}(1)", f"{name.upper()} (1)"])
        for text in (f"SELECT {call}", f"SELECT 1, {call}", f"SELECT 1 FROM app_item WHERE NOT {call}")
    ]
    for engine, names in NAMES.items()
}
_MYSQL_FAMILY = [
    "SELECT `get_lock`('guard', 0)",
    "SELECT \"get_lock\"('guard', 0)",
    'EXPLAIN ANALYZE FORMAT="TREE" DELETE FROM app_item',
    "EXPLAIN ANALYZE FORMAT=`TREE` DELETE FROM app_item",
    'EXPLAIN FORMAT="JSON" DELETE FROM app_item',
    "EXPLAIN `app_item` DELETE FROM app_item",
    "SET NAMES gbk",
    "SET NAMES 'big5'",
    "SET NAMES %s",
    "SET CHARACTER SET sjis",
    "SET CHARSET cp932",
    "SET character_set_client = gbk",
    "SET SESSION character_set_client = 'gb18030'",
    "SET @@character_set_client := gbk",
    "SET sql_mode = '', NAMES gbk",
    "SET STATEMENT a = 1 FOR SET STATEMENT a = 1 FOR SELECT 1",
    "WITH x AS (SELECT 1) SET GLOBAL max_connections = 17",
    _nested(127, "SELECT GET_LOCK('guard', 0)"),
    _nested(200, "SELECT GET_LOCK('guard', 0)"),
    "SELECT " + "() a(" * 3000 + ")" * 3000,
    "SELECT 1" + " " * (1 << 20),
]
ATTACKS: dict[str, list[str]] = {
    "mysql": [*_OF_NAMES["mysql"], *_MYSQL_FAMILY],
    "mariadb": [
        *_OF_NAMES["mariadb"],
        *_MYSQL_FAMILY,
        'ANALYZE FORMAT="JSON" DELETE FROM app_item',
        "ANALYZE FORMAT=`JSON` UPDATE app_item SET name = 'x'",
        "SET STATEMENT character_set_client = gbk FOR SELECT 1",
        "SET @a = NEXT VALUE FOR app_sequence",
        "SELECT PREVIOUS VALUE FOR app_sequence, NEXT VALUE FOR app_sequence",
    ],
    "postgresql": [
        *_OF_NAMES["postgresql"],
        *(
            _nested(depth, "SELECT DISTINCT ON (a) pg_advisory_lock(b) FROM (SELECT 1 a, 77 b) x")
            for depth in (0, 1, 62, 63, 126, 127, 128, 129, 200, 255, 256)
        ),
        _nested(127, "SELECT DISTINCT ON (a) over(b::int) FROM (SELECT 1 a, 77 b) x"),
        "SELECT " + "() a(" * 3000 + ")" * 3000,
        "SELECT 1" + " " * (1 << 20),
        (
            "COPY (WITH RECURSIVE x (n) AS (SELECT 1) SEARCH DEPTH FIRST BY n SET o "
            "DELETE FROM app_item RETURNING id) TO STDOUT"
        ),
        "WITH RECURSIVE x (n) AS (SELECT 1) SEARCH DEPTH FIRST BY n SET values DELETE FROM app_item",
        "WITH values AS (SELECT 1) DELETE FROM app_item",
        "WITH x AS ((DELETE FROM app_item RETURNING id)) SELECT 1",
        'EXPLAIN ("analyze") DELETE FROM app_item',
        "SELECT st_fromflatgeobuftotable('public', 'app_new', 'x')",
        "SELECT ST_CreateOverview('app_item'::regclass, 'rast', 2)",
        "SELECT AddGeometryColumn('app_item', 'geom', 4326, 'POINT', 2)",
        'SELECT "pg_advisory_lock"(77)',
        'SELECT "coalesce"(1)',
        "SELECT 1 OPERATOR(pg_catalog.+) key(1)",
        "SELECT operator(1)",
        "SET client_encoding = 'GBK'",
        "SET NAMES 'BIG5'",
        "SELECT set_config('client_encoding', 'SJIS', false)",
    ],
    "sqlite": [
        _nested(128, "SELECT unknown(1)"),
        "SELECT 1" + " " * (1 << 20),
        "SELECT over(1)",
        "SELECT [load_extension]('x')",
        "PRAGMA page_size = 512",
        "PRAGMA auto_vacuum = 1",
        "PRAGMA mmap_size = 0",
        "PRAGMA locking_mode(EXCLUSIVE)",
    ],
}

_SAFE_MYSQL_FAMILY = [
    "SELECT DEFAULT(a), SYSTEM_USER(), LOAD_FILE('/nothing') FROM app_default",
    "SELECT sys.format_bytes(1024), sys.version_major()",
    "CHECK TABLE app_item",
    "CHECK TABLE app_item EXTENDED",
    "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_bin'",
    "SET character_set_client = utf8mb4",
    "SET @names = 1",
    'EXPLAIN FORMAT="JSON" SELECT 1',
    "DESCRIBE app_item name",
    _nested(40, "1"),
]
SAFE: dict[str, list[str]] = {
    "mysql": [*_SAFE_MYSQL_FAMILY, "SELECT RANK () OVER (ORDER BY id) FROM app_item"],
    "mariadb": [
        *_SAFE_MYSQL_FAMILY,
        "SELECT COLUMN_GET(COLUMN_CREATE('a', 1), 'a' AS INT)",
        "SELECT AsText(GeomFromText('POINT(1 1)')), X(GeomFromText('POINT(1 1)')), Y(GeomFromText('POINT(1 1)'))",
        "SELECT Area(GeomFromText('POLYGON((0 0, 1 0, 1 1, 0 0))'))",
        "SELECT PREVIOUS VALUE FOR app_sequence",
        "SELECT LASTVAL(app_sequence)",
    ],
    "postgresql": [
        "SELECT hashtext('a'), hashtextextended('a', 0), inet_merge('10.0.0.1', '10.0.0.2')",
        "SELECT inet_same_family('10.0.0.1', '::1'), bound_box('((0,0),(1,1))'::box, '((2,2),(3,3))'::box)",
        "SELECT pclose('((0,0),(1,1))'::path), popen('((0,0),(1,1))'::path)",
        "SELECT t.a FROM app_item t (a, b)",
        "SELECT t.a FROM public.app_item t (a, b), app_item u (c) JOIN app_tag v (d) ON (true)",
        'SELECT "lower"(name), pg_catalog."lower"(name), "pg_catalog"."lower"(name) FROM app_item',
        "SELECT 1 OPERATOR(pg_catalog.+) 2, (1) OPERATOR(pg_catalog.*) (2)",
        "SELECT '1'::interval second(3), INTERVAL '1' SECOND(3), INTERVAL '1' DAY TO SECOND(3)",
        (
            "SELECT COALESCE((delete), 1), (update IS NULL), (insert), (merge) FROM (SELECT 1, 2, 3, 4) "
            "x (delete, update, insert, merge)"
        ),
        "WITH h AS (SELECT 1 AS delete) SELECT delete, delete + 1 FROM h WHERE (delete = 1) ORDER BY delete",
        "WITH delete AS (SELECT 1 AS update), insert (merge) AS (SELECT 2) SELECT update, merge FROM delete, insert",
        "SELECT to_tsvector('a') @@ to_tsquery('a'), ts_delete(to_tsvector('a'), 'a')",
        "SELECT name FROM app_item GROUP BY GROUPING SETS ((name), ROLLUP (id, name)), ROLLUP (id)",
        "SELECT name NOT ILIKE ('a'), name LIKE ('a') ESCAPE ('b'), now() AT TIME ZONE ('UTC') FROM app_item",
        "SET client_encoding TO DEFAULT",
        "SET client_encoding = 'UTF8'",
        "SELECT pg_stat_get_xact_function_calls(1)",
        _nested(100, "1"),
    ],
    "sqlite": [
        "PRAGMA page_size",
        "PRAGMA locking_mode",
        "PRAGMA auto_vacuum",
        "PRAGMA mmap_size",
        'SELECT "lower"(name) FROM app_item',
        _nested(60, "1"),
    ],
}
