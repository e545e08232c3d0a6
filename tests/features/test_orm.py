"""Rows, written and read back: as a script does it, in a request, and inside ``use_replica``."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
from django.core.paginator import Paginator
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.db.models import Count, F, Sum
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.db.models.signals import pre_save as pre_save_signal

from replicant import request_scope, use_replica
from tests.app.models import Tag
from tests.features.conftest import OLD_BOOKS, Sent, elsewhere, new, new_book
from tests.features.models import Author, Book, BookProxy, Novel

stocks = itertools.count(100)
#: MySQL's statement does not say which constraint it is about.
CONFLICT = {"mysql": {}, "postgresql": {"unique_fields": ["pk"]}}


def test_a_row_is_refreshed_after_it_was_saved(scope):
    with scope():
        book = Book.objects.get(title="old 00")
        book.stock = stock = next(stocks)
        book.save()
        book.refresh_from_db()
        assert book.stock == stock
        book.refresh_from_db(fields=["stock"])
        assert book.stock == stock


def test_who_saves_what_somebody_else_has_saved_already_sees_it(scope):
    """To MySQL that is no change; to whoever saved it is."""
    stock = next(stocks)
    elsewhere(lambda: Book.objects.filter(title="old 05").update(stock=stock))
    with scope():
        book = Book.objects.get(title="old 05")
        book.stock = stock
        book.save()
        book.refresh_from_db()
        assert book.stock == stock


def test_the_same_in_a_transaction(scope):
    stock = next(stocks)
    elsewhere(lambda: Book.objects.filter(title="old 06").update(stock=stock))
    with scope():
        with transaction.atomic():
            Book.objects.filter(title="old 06").update(stock=stock)
        assert Book.objects.get(title="old 06").stock == stock


def test_who_adds_what_somebody_else_has_added_already_sees_it(scope):
    author = elsewhere(lambda: Author.objects.create(name=new()))
    with scope():
        Author.objects.bulk_create([Author(name=author.name)], ignore_conflicts=True)
        assert Author.objects.filter(name=author.name).exists()


@pytest.mark.parametrize("in_transaction", [False, True])
def test_who_adds_or_updates_what_is_so_already_sees_it(scope, in_transaction: bool):
    """MySQL counts a row that it leaves alone as one that was added."""
    stock = next(stocks)
    book = elsewhere(lambda: new_book(stock=stock))
    with scope():
        with transaction.atomic() if in_transaction else nullcontext():
            rows = [Book(pk=book.pk, author_id=book.author_id, title=book.title, stock=stock)]
            Book.objects.bulk_create(
                rows, update_conflicts=True, update_fields=["stock"], **CONFLICT[connection.vendor]
            )
        assert Book.objects.filter(pk=book.pk).exists()


def test_counting_with_f_and_reading_the_count(scope):
    with scope():
        book = new_book()
        book.stock = F("stock") - 1
        book.save()
        book.refresh_from_db()
        assert book.stock == 4
        Book.objects.filter(pk=book.pk).update(stock=F("stock") * 2)
        assert Book.objects.get(pk=book.pk).stock == 8


def test_a_row_from_a_replica_is_saved_on_the_primary(scope):
    with scope():
        book = Book.objects.using("replica1").get(title="old 01")
        book.title = title = new()
        book.save()
        assert Book.objects.using("default").get(pk=book.pk).title == title
        assert book._state.db == "default"
        book.delete()
        assert not Book.objects.using("default").filter(title=title).exists()


@pytest.mark.parametrize("deferring", [("only", "title"), ("defer", "stock")])
def test_what_was_deferred_on_a_replica_does_not_overwrite_what_is_newer(scope, deferring: tuple[str, str]):
    """Django would load it from the replica, and save it with the rest."""
    method, field = deferring
    stock, title = next(stocks), new()
    elsewhere(lambda: Book.objects.filter(title="old 02").update(stock=stock))
    with scope():
        book = getattr(Book.objects.using("replica1"), method)(field).get(title="old 02")
        book.title = title
        book.save()
        saved = Book.objects.get(pk=book.pk)
        assert (saved.title, saved.stock) == (title, stock)
        saved.title = "old 02"
        saved.save()


def test_what_was_loaded_in_part_is_saved_in_that_part_and_nothing_is_read(scope, sent: Sent):
    """What is read from the primary to be written back may be newer by then, too."""
    with scope():
        book = Book.objects.using("replica1").only("title").get(title="old 02")
        sent.clear()
        book.save()
    ((alias, sql),) = sent
    assert alias == "default"
    assert sql.startswith("UPDATE")
    assert "stock" not in sql


def test_what_was_loaded_in_part_and_is_gone_by_now_is_not_made_again(scope):
    book = Book.objects.using("replica1").only("title").get(title="old 11")
    author = elsewhere(lambda: Author.objects.create(name=new()))
    with transaction.atomic(), scope():
        Book.objects.using("default").filter(pk=book.pk).delete()
        book.author = author
        book.title = new()
        with pytest.raises(DatabaseError, match="did not affect any rows"):
            book.save()
        transaction.set_rollback(True)


def test_deferred_fields_are_loaded_from_where_the_row_is(scope):
    with scope():
        pk = new_book(title=(title := new())).pk
        book = Book.objects.only("stock").get(pk=pk)
        assert book.title == title


def test_get_or_create_finds_what_somebody_else_just_made(scope, sent: Sent):
    author = elsewhere(lambda: Author.objects.create(name=new()))
    with scope():
        assert Author.objects.get_or_create(name=author.name) == (author, False)
        fresh, created = Author.objects.get_or_create(name=new())
        assert created
        assert Author.objects.get_or_create(name=fresh.name) == (fresh, False)
    assert sent.to_replicas() == []


def test_update_or_create_updates_what_somebody_else_just_made(scope, sent: Sent):
    book = elsewhere(new_book)
    with scope():
        found, created = Book.objects.update_or_create(
            author_id=book.author_id, title=book.title, defaults={"stock": 6}
        )
        assert (found, created) == (book, False)
        assert Book.objects.get(pk=book.pk).stock == 6
    assert sent.to_replicas() == []


def test_get_or_create_through_a_related_manager_of_a_row_from_a_replica(scope):
    with use_replica("replica1"):
        author = Author.objects.get(name="old author")
    with scope():
        title = new()
        made = elsewhere(lambda: Book.objects.create(author_id=author.pk, title=title))
        assert author.books.get_or_create(title=title) == (made, False)


def test_rows_made_in_bulk_come_with_their_numbers_where_the_engine_tells_them(scope):
    with scope():
        made = Author.objects.bulk_create([Author(name=new()) for _ in range(3)])
        names = [author.name for author in made]
        assert [author.name for author in Author.objects.filter(name__in=names).order_by("pk")] == names
        if connection.features.can_return_rows_from_bulk_insert:
            assert Author.objects.in_bulk([author.pk for author in made]) == {author.pk: author for author in made}
        # And those that were there are left alone.
        Author.objects.bulk_create([Author(name=names[0]), Author(name=(name := new()))], ignore_conflicts=True)
        assert Author.objects.filter(name__in=[names[0], name]).count() == 2


def test_rows_changed_in_bulk_are_read_back(scope):
    with scope():
        books = [new_book() for _ in range(3)]
        for book in books:
            book.stock = 9
        assert Book.objects.bulk_update(books, ["stock"]) == 3
        assert set(Book.objects.in_bulk([book.pk for book in books]).values()) == set(books)
        assert {book.stock for book in Book.objects.in_bulk([book.pk for book in books]).values()} == {9}


def test_rows_of_a_replica_changed_in_bulk_are_changed_on_the_primary(scope):
    books = list(Book.objects.using("replica2").filter(title__in=["old 03", "old 04"]))
    with scope():
        for book in books:
            book.stock = 55
        Book.objects.bulk_update(books, ["stock"])
        assert Book.objects.filter(title__in=["old 03", "old 04"], stock=55).count() == 2


def test_locked_rows_are_the_primarys(scope, sent: Sent):
    book = elsewhere(new_book)
    with scope(), transaction.atomic():
        assert Book.objects.select_for_update().get(pk=book.pk) == book
        if connection.features.has_select_for_update_skip_locked:
            assert list(Book.objects.select_for_update(skip_locked=True).filter(pk=book.pk)) == [book]
    assert sent.to_replicas() == []


def test_a_lock_asked_of_a_replica_by_name_is_refused(sent: Sent):
    with sent.refused(), transaction.atomic(using="replica1"):
        list(Book.objects.using("replica1").select_for_update())


def test_queries_of_every_shape_see_the_row(scope):
    with scope():
        book = new_book()
        mine = Book.objects.filter(pk=book.pk)
        assert mine.exists()
        assert mine.contains(book)
        assert mine.count() == 1
        assert mine.aggregate(Sum("stock")) == {"stock__sum": 5}
        assert mine.annotate(n=Count("author__books")).get().n == 1
        assert list(mine.values_list("title", flat=True)) == [book.title]
        assert mine.first() == mine.latest("pk") == mine[0] == mine[:1].get() == book
        assert list(mine.union(Book.objects.none(), mine)) == [book]
        assert mine.select_related("author").get().author.name == book.author.name
        assert list(mine.iterator()) == [book]
        assert list(Book.objects.raw("SELECT * FROM features_book WHERE id = %s", [book.pk])) == [book]
        assert list(Author.objects.filter(books__in=mine)) == [book.author]
        assert list(Author.objects.filter(models.Exists(mine.filter(author=models.OuterRef("pk"))))) == [book.author]
        assert BookProxy.objects.get(pk=book.pk).title == book.title
        assert Book.objects.explain()
        with connection.cursor() as cursor:
            cursor.execute("SELECT title FROM features_book WHERE id = %s", [book.pk])
            assert cursor.fetchone() == (book.title,)


def test_a_queryset_that_was_made_before_the_write_sees_it_when_it_is_evaluated(scope):
    with scope():
        title = new()
        later = Book.objects.filter(title=title)
        new_book(title=title)
        assert later.exists()
        assert len(later) == 1


def test_rows_of_several_tables(scope):
    with scope():
        novel = Novel.objects.create(author=Author.objects.create(name=new()), title=new(), genre="new")
        assert Novel.objects.get(pk=novel.pk).title == novel.title
        assert Book.objects.get(pk=novel.pk).novel == novel
        novel.genre = "newer"
        novel.save()
        assert Novel.objects.only("genre").get(pk=novel.pk).title == novel.title
        novel.refresh_from_db()
        assert novel.genre == "newer"
        pk = novel.pk
        novel.delete()
        assert not Book.objects.filter(pk=pk).exists()


def test_a_row_of_several_tables_from_a_replica_is_saved_on_the_primary(scope):
    with use_replica():
        novel = Novel.objects.only("genre").get(title="old novel")
    with scope():
        novel.genre = genre = new()
        novel.save()
        assert Novel.objects.get(pk=novel.pk).genre == genre


def test_a_row_made_by_hand_is_inserted_if_the_primary_lacks_it(scope):
    """save() with a number tries an UPDATE first, and asks nobody but the primary."""
    with scope():
        author = Author(pk=10**6 + int(new().partition("-")[2]), name=new())
        author.save()
        assert Author.objects.get(pk=author.pk) == author
        again = Author.from_db("replica1", ["id", "name"], [author.pk, new()])
        again.save()
        assert Author.objects.get(pk=author.pk).name == again.name


def test_a_manager_that_reads_from_a_replica_reads_from_it_and_writes_nowhere(sent: Sent):
    with request_scope():
        book = new_book()
        assert not Book.on_replica1.filter(pk=book.pk).exists()
        assert Book.on_replica1.filter(title__startswith="old").count() > 0
    with sent.refused():
        Book.on_replica1.update(stock=0)
    with sent.refused():
        Book.on_replica1.filter(pk=1).delete()


def test_a_subquery_of_another_alias_is_djangos_to_refuse():
    with request_scope():
        inner = Author.objects.using("replica1").filter(name="old author")
        with pytest.raises(ValueError, match="Subqueries aren't allowed across different databases"):
            list(Book.objects.using("default").filter(author__in=inner))
        # The router chooses where the outer one runs, and Django takes the inner one there.
        assert Book.objects.using("replica1").filter(author__in=inner).exists()
        assert Book.objects.filter(author__in=Author.objects.filter(name="old author")).exists()


def test_a_transaction_sees_its_own_rows_and_so_does_what_follows(scope, sent: Sent):
    with scope():
        with transaction.atomic(using="default"):
            book = new_book()
            assert Book.objects.filter(pk=book.pk).exists()
            with pytest.raises(IntegrityError), transaction.atomic():
                Book.objects.create(author_id=book.author_id, title=book.title)
            assert Book.objects.filter(pk=book.pk).exists()
        assert Book.objects.filter(pk=book.pk).exists()
    assert sent.to_replicas() == []


def test_a_transaction_on_a_replica_reads_there(sent: Sent):
    with transaction.atomic(using="replica1"):
        assert Book.objects.using("replica1").filter(title__startswith="old").exists()
        with sent.refused(), transaction.atomic(using="replica1"):
            Book.objects.using("replica1").update(stock=0)


def test_what_runs_on_commit_reads_what_was_committed(scope):
    seen = []
    with scope(), transaction.atomic():
        book = new_book()
        transaction.on_commit(lambda: seen.append(Book.objects.get(pk=book.pk)))
        transaction.on_commit(lambda: seen.append(Author.objects.get(name=book.author.name)), robust=True)
    assert seen == [book, book.author]


def test_receivers_of_signals_read_what_was_written(scope):
    seen = []

    def before(sender, instance, **kwargs):
        # The usual way to compare with what was there.
        seen.append(instance.pk and sender.objects.get(pk=instance.pk).stock)

    def after(sender, instance, **kwargs):
        seen.append(sender.objects.get(pk=instance.pk).stock)

    def gone(sender, instance, **kwargs):
        seen.append(sender.objects.filter(pk=instance.pk).exists())

    def tagged(sender, instance, action, **kwargs):
        seen.append((action, instance.tags.count()))

    receivers = [(pre_save_signal, before), (post_save, after), (post_delete, gone)]
    for signal, receiver in receivers:
        signal.connect(receiver, Book)
    m2m_changed.connect(tagged, Book.tags.through)
    try:
        with scope():
            book = new_book()
            book.stock = 4
            book.save()
            book.tags.add(Tag.objects.create(name=new()))
            assert seen == [None, 5, 5, 4, ("pre_add", 0), ("post_add", 1)]
            book.delete()
            assert seen[6:] == [False]
    finally:
        for signal, receiver in receivers:
            signal.disconnect(receiver, Book)
        m2m_changed.disconnect(tagged, Book.tags.through)


def test_a_paginators_count_and_its_pages_come_from_one_replica(sent: Sent):
    for _ in range(8):
        with request_scope():
            pages = Paginator(Book.objects.filter(title__startswith="old").order_by("pk"), 5)
            titles = [book.title for number in pages.page_range for book in pages.page(number)]
            assert len(titles) == pages.count == OLD_BOOKS + 1
    aliases = [alias for alias, _ in sent]
    assert [set(aliases[start : start + 4]) for start in range(0, 32, 4)] == [
        {aliases[start]} for start in range(0, 32, 4)
    ]
    assert "default" not in aliases


def test_iterators_read_a_fresh_row_where_it_is(scope):
    """PostgreSQL: through a cursor of the server's."""
    with scope():
        names = sorted(new() for _ in range(7))
        Author.objects.bulk_create([Author(name=name) for name in names])
        mine = Author.objects.filter(name__in=names).order_by("name")
        assert [author.name for author in mine.iterator(chunk_size=2)] == names
        assert [author.name for author in mine.prefetch_related("books").iterator(chunk_size=2)] == names


def test_an_iterator_that_is_open_is_finished_where_it_began():
    with request_scope(), use_replica("replica1"):
        rows = Book.objects.filter(title__startswith="old").iterator(chunk_size=2)
        assert next(rows)._state.db == "replica1"
        new_book()
        assert {row._state.db for row in rows} == {"replica1"}
