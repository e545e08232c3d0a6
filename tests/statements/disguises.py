"""Hostile statements, nested, quoted and encoded in other ways: texts that must be refused, without an end.

``python -m tests.statements.disguises [engine ...] [--texts 1000000] [--seed 1]`` reads so many for each engine.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
from collections.abc import Callable, Iterator

from replicant import _core
from tests.statements import HOSTILE

#: Calls that lock or write, by engine; functions named like another server's keywords are users' own.
CALLS = {
    "mysql": [
        "GET_LOCK('guard', 0)",
        "GET_LOCK(0x6775617264, 0)",
        "GET_LOCK(_utf8mb4'guard', 0)",
        "GET_LOCK(N'guard', 0)",
        'GET_LOCK("guard", 0)',
        "`get_lock`('guard', 0)",
        "RELEASE_ALL_LOCKS()",
        "IS_FREE_LOCK('guard')",
        "LAST_INSERT_ID(5)",
        "app_delete_all()",
        "`app_delete_all`()",
        "test.app_delete_all()",
        *(f"{name}(1)" for name in ("unnest", "placing", "jsonb", "glob", "bpchar", "area", "nvl", "overlay", "ilike")),
        "COUNT (1)",
        "now/**/(1)",
    ],
    "mariadb": [
        "GET_LOCK('guard', 0)",
        "GET_LOCK(0x6775617264, 0)",
        "GET_LOCK(_latin1'guard', 0)",
        "`get_lock`('guard', 0)",
        "NEXTVAL(app_sequence)",
        "NEXT VALUE FOR app_sequence",
        "app_sequence.nextval",
        "SETVAL(app_sequence, 50)",
        "LAST_INSERT_ID(5)",
        "app_delete_all()",
        "`app_delete_all`()",
        *(f"{name}(1)" for name in ("unnest", "placing", "jsonb", "glob", "bpchar", "lateral", "any_value", "array")),
        "COUNT (1)",
        "rank -- a\n(1)",
    ],
    "postgresql": [
        "pg_advisory_lock(1)",
        "pg_catalog.pg_try_advisory_xact_lock(1, 2)",
        '"pg_advisory_lock"(1)',
        '"pg_catalog"."pg_advisory_lock_shared"(1)',
        'U&"pg_advisory\\005flock"(1)',
        "nextval('app_item_id_seq')",
        "nextval(E'app\\x5fitem_id_seq')",
        "nextval(U&'app\\005fitem_id_seq')",
        "nextval($$app_item_id_seq$$)",
        "setval('app_item_id_seq', 50)",
        "set_config('transaction_read_only', 'off', false)",
        "set_config(E'transaction\\x5fread_only', 'off', false)",
        "lo_create(0)",
        "pg_notify('guard', 'x')",
        "query_to_xml('SELECT pg_advisory_lock(1)', true, true, '')",
        "st_fromflatgeobuftotable('public', 'x', 'x')",
        "app_delete_all()",
        "public.app_delete_all()",
        '"App_Double"(1)',
        '"coalesce"(1)',
        *(f"{name}(1)" for name in ("key", "use", "ignore", "force", "over", "filter", "escape", "zone", "by")),
    ],
    "sqlite": [
        "load_extension('x')",
        "\"load_extension\"('x')",
        "writefile('/tmp/replicant-guard', 'x')",
        "unknown(1)",
        '"unknown"(1)',
        "[unknown](1)",
        "`unknown`(1)",
        *(f"{name}(1)" for name in ("key", "use", "ignore", "over", "filter", "lateral", "by", "row", "array", "zone")),
    ],
}
_LOCKING = [
    "SELECT * FROM app_item FOR UPDATE",
    "SELECT id FROM app_item WHERE id = 1 FOR UPDATE NOWAIT",
    "SELECT * FROM app_item LIMIT 1 FOR UPDATE SKIP LOCKED",
]
#: Queries that lock, write or leave something behind.
QUERIES = {
    "mysql": [*_LOCKING, "SELECT * FROM app_item LOCK IN SHARE MODE", "SELECT 1 INTO @a"],
    "mariadb": [*_LOCKING, "SELECT * FROM app_item LOCK IN SHARE MODE", "SELECT 1 INTO @a"],
    "postgresql": [
        *_LOCKING,
        "SELECT * FROM app_item FOR NO KEY UPDATE",
        "SELECT * FROM app_item FOR KEY SHARE",
        "WITH x AS (DELETE FROM app_item RETURNING id) SELECT id FROM x",
        "WITH x (a) AS NOT MATERIALIZED (UPDATE app_item SET name = 'x' RETURNING id) TABLE x",
        "WITH values AS (SELECT 1) DELETE FROM app_item",
        "WITH RECURSIVE x (n) AS (SELECT 1) SEARCH DEPTH FIRST BY n SET o DELETE FROM app_item RETURNING id",
        "SELECT 1 INTO app_new",
    ],
    "sqlite": ["WITH x AS (SELECT 1) DELETE FROM app_item", "WITH x (a) AS (SELECT 1) UPDATE app_item SET name = 'x'"],
}
_EXPRESSIONS = [
    "({})",
    "(1 + {})",
    "- ({})",
    "COALESCE({}, 1)",
    "NULLIF(1, {})",
    "CASE WHEN {} IS NULL THEN 1 ELSE 2 END",
    "CASE 1 WHEN 1 THEN {} END",
    "(SELECT {})",
    "EXISTS (SELECT {})",
    "NOT ({})",
    "1 IN (2, {})",
    "(1, {}) IN ((1, 2))",
    "1 BETWEEN {} AND 2",
    "LOWER({})",
    "MAX({})",
    "CAST({} AS CHAR(5))",
    "(SELECT a FROM (SELECT {} AS a) AS q)",
    "SUM(1) OVER (PARTITION BY {})",
    "SUM({}) OVER (ORDER BY 1)",
]
_SELECTS = [
    "SELECT {}",
    "SELECT 'it''s', {}",
    "SELECT DISTINCT {}",
    "SELECT ALL {} AS a",
    "SELECT 1 WHERE {} IS NULL",
    "SELECT * FROM app_item WHERE id IN (1, {})",
    "SELECT * FROM app_item AS i JOIN app_piece AS p ON {} = 1",
    "SELECT COUNT(*) FROM app_item GROUP BY {}",
    "SELECT COUNT(*) FROM app_item HAVING {} > 0",
    "SELECT 1 FROM (SELECT 1 AS z) AS y ORDER BY {}",
    "SELECT 1 UNION ALL SELECT {}",
    "WITH w AS (SELECT {} AS a) SELECT a FROM w",
    "WITH w (a, b) AS (SELECT 1, 2) SELECT {} FROM w",
    "WITH w AS (SELECT 1) (SELECT 1) ORDER BY 1, {}",
    "EXPLAIN ANALYZE SELECT {}",
]
_SELECTS_OF = {
    "mysql": ["SET @a = {}", "SELECT 1 LIMIT 1 OFFSET {}", "SELECT SQL_NO_CACHE {}", "SELECT 1 DIV {}"],
    "mariadb": [
        "SET @a = {}",
        "SET STATEMENT max_statement_time = 5 FOR SELECT {}",
        "VALUES ({})",
        "ANALYZE SELECT {}",
    ],
    "postgresql": [
        "SELECT DISTINCT ON (1) {}",
        "SELECT DISTINCT ON ({}) 1",
        "SELECT 1 OPERATOR(pg_catalog.+) {}",
        "SELECT * FROM ROWS FROM ({}) AS x",
        "SELECT * FROM {} AS x (a)",
        "SELECT x.a FROM app_item i, LATERAL {} AS x (a)",
        "SELECT ({})::text",
        "SELECT ARRAY[{}]",
        "SELECT 1 LIMIT {}",
        "SELECT 1 FROM app_item GROUP BY GROUPING SETS (({}))",
        "SELECT SUM(1) FILTER (WHERE {} IS NULL) FROM app_item",
        "SELECT $$ ' $$, {}",
        "SELECT E'\\'', {}",
        "VALUES (1), ({})",
        "COPY (SELECT {}) TO STDOUT",
        "DECLARE c CURSOR FOR SELECT {}",
        "EXPLAIN (ANALYZE, COSTS OFF) SELECT {}",
    ],
    "sqlite": ["VALUES (1), ({})", "SELECT [a], {}", "SELECT 1 LIMIT {}"],
}
_QUERIES = [
    "({})",
    "SELECT * FROM ({}) AS q",
    "SELECT ({})",
    "SELECT 1 WHERE EXISTS ({})",
    "SELECT 1 WHERE 1 IN ({})",
    "WITH w AS ({}) SELECT 1",
    "WITH w (a) AS (SELECT 1), v AS ({}) SELECT * FROM w",
    "({}) UNION (SELECT 1)",
    "SELECT * FROM (SELECT 1) AS p, ({}) AS q",
    "EXPLAIN ANALYZE {}",
]
_BEFORE = ["", " ", "\n\t", "/* a */ ", "-- a\n", ";", "(", "((", "SELECT 'a'; ", "SELECT 1;", "EXPLAIN ANALYZE "]
_AFTER = ["", ";", " -- '", " /* a */", "\n", ")", "; SELECT 1"]
_SPACES = [" ", "\n", "\t", "  ", "/**/ ", " /* a */ ", " /* ' */ ", ' /* " */ ', " -- a\n", " -- '\n", " /* -- */\n"]
_SPACES_OF = {
    "mysql": [" # a\n", " #'\n", " --\t\n"],
    "mariadb": [" # a\n", " #'\n", " --\t\n"],
    "postgresql": [" /* a /* b */ ' */ ", " --'\r", "--\n", "\f"],
    "sqlite": ["\f", " --'\n"],
}
_CASES: list[Callable[[str], str]] = [str, str, str.upper, str.lower, str.swapcase]
#: Strings and quoted names stay as they are; so do the words around a string that belong to it (E'...').
_PIECES = re.compile(
    r"""((?:[EeNn]|[Uu]&|_\w+)?'(?:[^'\\]|\\.|'')*'|(?:[Uu]&)?"[^"]*"|`[^`]*`|\[\w+\]|\$\$.*?\$\$|\$\w+\$|--.*?[\n\r]|/\*.*?\*/|\s+|\w+|.)""",
    re.DOTALL,
)
#: Around the number of parentheses that the reader follows, and far beyond.
_DEPTHS = [*range(6), *range(120, 132), 255, 256, 257]

#: How many disguises a text gets.
_OF_EACH = 8


def disguises(engine: str, seed: int) -> Iterator[tuple[str, bool]]:
    """Texts without an end, and whether each calls, locks or writes where the primary must count it as a write."""
    chance = random.Random(seed)
    choice, below = chance.choice, chance.random
    spaces = _SPACES + _SPACES_OF[engine]
    selects = _SELECTS + _SELECTS_OF[engine]
    statements = [text for text in HOSTILE[engine] if len(text) < 1000]
    pieces_of = {text: _PIECES.findall(text) for text in statements}

    def disguised(pieces: list[str], case: Callable[[str], str]) -> str:
        texts = []
        for piece in pieces:
            if piece.isspace():
                texts.append(choice(spaces) if below() < 0.3 else piece)
            elif piece in "(),":
                texts.append(piece + choice(spaces) if below() < 0.15 else piece)
            else:
                texts.append(case(piece) if piece.isalnum() else piece)
        return "".join(texts)

    while True:
        kind = below()
        case = choice(_CASES)
        if kind < 0.6:
            text = choice(CALLS[engine])
            for _ in range(int(below() * 4)):
                text = choice(_EXPRESSIONS).format(text)
            if below() < 0.15:
                depth = choice(_DEPTHS)
                text = "(" * depth + "SELECT " + text + ")" * depth if depth else text
            text = choice(selects).format(text)
        elif kind < 0.8:
            text = choice(QUERIES[engine])
        else:
            # These have tricks of their own, which another space would spoil.
            text = choice(statements)
            text = "".join(case(piece) if piece.isalnum() else piece for piece in pieces_of[text])
            yield choice(_BEFORE) + text + choice(_AFTER), False
            continue
        for _ in range(int(below() * 3)):
            if text.startswith(("SELECT", "WITH", "(", "VALUES")):
                text = choice(_QUERIES).format(text)
        pieces = _PIECES.findall(text)
        # What set_config sets is no data.
        counts = "set_config" not in text
        for _ in range(_OF_EACH):
            yield disguised(pieces, choice(_CASES)) + choice(_AFTER), counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Read disguised statements; one that is not refused ends the run.")
    parser.add_argument("engines", nargs="*", default=list(CALLS))
    parser.add_argument("--texts", type=int, default=1_000_000, help="for each engine")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for engine in arguments.engines:
        passed = let_through(engine, arguments.texts, arguments.seed)
        print(f"{engine}: {arguments.texts} texts, {len(passed)} were let through or not counted as a write")
        if passed:
            raise SystemExit("\n".join(passed[:20]))


def let_through(engine: str, texts: int, seed: int = 1) -> list[str]:
    """Those of so many disguised statements that a replica would get, or that the primary would not count."""
    writes = _core.WRITES | _core.LOCKS
    return [
        text
        for text, counts in itertools.islice(disguises(engine, seed), texts)
        if _core.refusal(text, engine) is None or (counts and not _core.analyse(text, engine) & writes)
    ]


if __name__ == "__main__":
    main()
