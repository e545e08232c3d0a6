"""A statement that matched no row is told from one that changed something."""

from __future__ import annotations

import pytest
from django.db import connection, connections
from django.test import override_settings

from replicant.engines import engine_of
from tests.app.models import Tag
from tests.engines.positions import execute
from tests.servers import Cluster

NOTHING_CHANGED = [
    "UPDATE app_tag SET name = 'x' WHERE id = -1",
    "  update app_tag set name = upper('x') where id in (-1, -2)",
    "DELETE FROM app_tag WHERE id = -1",
]
SOMETHING_CHANGED = [
    "INSERT INTO app_tag (name) VALUES ('x')",
    "UPDATE app_tag SET name = 'changed'",
    "CREATE TABLE some_table (id int)",
    "DROP TABLE some_table",
]


def changed_nothing(sql: str, alias: str = "default") -> bool:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return bool(engine_of(connections[alias]).changed_nothing(connections[alias], cursor, sql))


def test_an_update_that_matched_nothing_is_told_from_one_that_changed_something(servers: Cluster):
    Tag.objects.create(name="x")
    assert [sql for sql in NOTHING_CHANGED if not changed_nothing(sql)] == []
    assert [sql for sql in SOMETHING_CHANGED if changed_nothing(sql)] == []


@pytest.mark.usefixtures("site")
@override_settings(REPLICANT={})  # The tracker would ask first, and be told.
def test_sqlite_counts_the_rows_that_change():
    Tag.objects.create(name="x")
    changed_nothing("SELECT 1")
    extra = [
        "INSERT INTO app_tag (name) SELECT name FROM app_tag WHERE id = -1",
        "WITH none AS (SELECT -1 AS id) DELETE FROM app_tag WHERE id IN (SELECT id FROM none)",
    ]
    assert [sql for sql in [*NOTHING_CHANGED, *extra] if not changed_nothing(sql)] == []
    assert [sql for sql in SOMETHING_CHANGED if changed_nothing(sql)] == []
    execute("CREATE VIEW tags AS SELECT * FROM app_tag")
    execute(
        "CREATE TRIGGER tagging INSTEAD OF INSERT ON tags "
        "BEGIN INSERT INTO app_tag (name) VALUES (new.name || '!'); END"
    )
    assert not changed_nothing("INSERT INTO tags (name) VALUES ('by a trigger')")
    # Not told in between: then it is not sure.
    execute("INSERT INTO app_tag (name) VALUES ('unseen')")
    assert not changed_nothing(NOTHING_CHANGED[0])
    connection.close()
    assert changed_nothing(NOTHING_CHANGED[0])


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_what_acts_without_a_row_is_never_taken_for_nothing(servers: Cluster):
    execute("CREATE TABLE log (at timestamptz DEFAULT now())")
    for table in ("triggered", "ruled", "plain"):
        execute(f"CREATE TABLE {table} (id int, name text)")
    execute(
        "CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO log DEFAULT VALUES; RETURN NULL; END $$"
    )
    execute("CREATE TRIGGER t AFTER UPDATE ON triggered FOR EACH STATEMENT EXECUTE FUNCTION logs()")
    execute("CREATE RULE r AS ON DELETE TO ruled DO ALSO INSERT INTO log DEFAULT VALUES")
    execute("CREATE VIEW seen AS SELECT * FROM triggered")
    execute("CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS $$ INSERT INTO log DEFAULT VALUES RETURNING 1 $$")
    execute('CREATE SCHEMA other; CREATE TABLE other."odd name" (id int)')
    acts = [
        "UPDATE triggered SET name = 'x' WHERE id = -1",
        "UPDATE ONLY public.\"triggered\" SET name = 'x' WHERE id = -1",
        "DELETE FROM ruled WHERE id = -1",
        "UPDATE seen SET name = 'x' WHERE id = -1",
        "UPDATE plain SET name = 'x' WHERE id = writes() AND id = -1",
        "WITH more AS (INSERT INTO log DEFAULT VALUES) UPDATE plain SET name = 'x' WHERE id = -1",
        "INSERT INTO log DEFAULT VALUES; UPDATE plain SET name = 'x' WHERE id = -1",
        "UPDATE plain SET name = 'x' WHERE id = (SELECT nextval('app_tag_id_seq'))",
    ]
    assert [sql for sql in acts if changed_nothing(sql)] == []
    quiet = [
        "UPDATE plain SET name = 'x' WHERE id = -1",
        "DELETE FROM ONLY public.plain WHERE id = -1",
        'DELETE FROM other."odd name" WHERE id = -1',
    ]
    assert [sql for sql in quiet if not changed_nothing(sql)] == []


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_a_table_is_looked_up_once_per_session(servers: Cluster):
    before = servers.primary.statements()
    for _ in range(5):
        assert changed_nothing(NOTHING_CHANGED[0])
    assert servers.primary.statements() - before == 1
