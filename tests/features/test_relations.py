"""Objects that hang together, loaded from here and there."""

from __future__ import annotations

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Prefetch, prefetch_related_objects

from replicant import request_scope, use_replica
from tests.app.models import Note, Tag
from tests.features.conftest import Sent, elsewhere, new, new_book
from tests.features.models import Author, Book, Chapter, Review

ALIASES = ["default", "replica1", "replica2"]


@pytest.mark.parametrize("theirs", ALIASES)
@pytest.mark.parametrize("mine", ALIASES)
def test_objects_of_all_members_may_be_assigned_to_each_other(mine: str, theirs: str, sent: Sent):
    author = Author.objects.using(theirs).get(name="old author")
    book = Book.objects.using(mine).get(title="old 07")
    with request_scope():
        book.author = author
        book.save()
        Review.objects.create(book=book, text=(text := new()))
        assert Review.objects.get(text=text).book.author == author
        book.refresh_from_db()
        assert book.author_id == author.pk
        assert Chapter(book=book, title="x").book is book
        author.books.add(book)
        tag = Tag.objects.using(theirs).get(name="old tag")
        book.tags.set([tag])
        assert list(book.tags.all()) == [tag]


def test_tags_that_were_added_are_there(scope):
    with scope():
        book = new_book()
        tag = Tag.objects.create(name=new())
        book.tags.add(tag)
        assert list(book.tags.all()) == [tag]
        assert list(tag.book_set.all()) == [book]
        book.tags.remove(tag)
        assert not book.tags.exists()
        book.tags.set([tag])
        assert book.tags.count() == 1
        book.tags.clear()
        assert not book.tags.exists()
        assert book.tags.create(name=new()) in book.tags.all()


def test_a_row_of_a_replica_is_tagged_on_the_primary_and_shows_it(scope, sent: Sent):
    book = Book.objects.using("replica1").get(title="old 08")
    with scope():
        tag = book.tags.create(name=new())
        assert tag in book.tags.all()
        # Which tags there are is asked where it is written, so that no row is written twice.
        book.tags.add(tag)
        book.tags.set([tag])
        assert list(book.tags.all()) == [tag]
        chapter = book.chapters.create(title=new())
        assert chapter in book.chapters.all()
        assert book.chapters.update(title=(title := new())) == book.chapters.count()
        assert set(book.chapters.values_list("title", flat=True)) == {title}
        book.chapters.exclude(pk=chapter.pk).delete()
        assert list(book.chapters.all()) == [chapter]
        chapter.delete()


def test_who_adds_a_tag_that_somebody_else_just_added_sees_it(scope):
    book = Book.objects.using("replica1").get(title="old 09")
    tag = elsewhere(lambda: Tag.objects.create(name=new()))
    elsewhere(lambda: Book.objects.using("default").get(pk=book.pk).tags.add(tag))
    with scope():
        book.tags.add(tag)
        assert tag in book.tags.all()


def test_generic_relations_of_a_row_from_the_primary_are_written(sent: Sent):
    with request_scope():
        book = new_book()
        note = book.notes.create(text="one")
        assert list(book.notes.all()) == [note]
        assert book.notes.update(text="two") == 1
        assert book.notes.get().text == "two"
        book.notes.add(Note(text="three"), bulk=False)
        assert book.notes.count() == 2
        book.notes.all().delete()
        assert not book.notes.exists()
    assert sent.to_replicas() == []


@pytest.mark.parametrize(
    ("write", "left"), [(lambda notes: notes.update(text="x"), ["x"]), (lambda notes: notes.all().delete(), [])]
)
@pytest.mark.parametrize("read", [use_replica, request_scope])
def test_generic_relations_of_a_row_from_a_replica_are_changed_on_the_primary(read, write, left: list[str]):
    """Django alone runs these two on the database chosen for reading."""
    with read():
        book = Book.objects.using("replica1").get(title="old 10")
        write(book.notes)
    notes = Note.objects.using("default").filter(object_id=book.pk)
    assert [note.text for note in notes] == left
    notes.delete()
    Note.objects.create(about=book, text="old note")


def test_generic_relations_of_a_row_from_a_replica_take_the_rest(scope):
    with use_replica("replica1"):
        book = Book.objects.get(title="old 10")
    with scope():
        note = book.notes.create(text=new())
        assert note in book.notes.all()
        book.notes.remove(note)
        assert note not in book.notes.all()


def test_generic_foreign_keys_are_followed_where_the_row_is(scope):
    with scope():
        book = new_book()
        note = Note.objects.create(about=book, text=new())
        assert Note.objects.get(pk=note.pk).about == book
        assert Note.objects.prefetch_related("about").get(pk=note.pk).about == book
        ContentType.objects.clear_cache()
        assert Note.objects.get(pk=note.pk).about == book


def test_generic_foreign_keys_take_objects_of_every_member():
    for alias in ALIASES:
        book = Book.objects.using(alias).get(title="old 00")
        with request_scope():
            note = Note.objects.create(about=book, text=new())
            assert Note.objects.get(pk=note.pk).about == book


def test_what_is_prefetched_has_what_was_written(scope):
    with scope():
        book = new_book()
        book.tags.add(Tag.objects.create(name=new()))
        Chapter.objects.create(book=book, title=new())
        Note.objects.create(about=book, text=new())
        found = Book.objects.prefetch_related("tags", "chapters", "notes").get(pk=book.pk)
        assert [len(found._prefetched_objects_cache[name]) for name in ("tags", "chapters", "notes")] == [1, 1, 1]
        stale = Book.objects.select_related("author").get(pk=book.pk)
        prefetch_related_objects([stale], "tags")
        assert len(stale.tags.all()) == 1


@pytest.mark.parametrize("alias", ALIASES)
def test_what_using_reads_is_prefetched_without_error_from_one_place(alias: str, sent: Sent):
    """Django prefetches where the router says, by an instance of what it has."""
    for scope in (request_scope, use_replica):
        del sent[:]
        with scope():
            books = Book.objects.using(alias).filter(title__startswith="old").prefetch_related("tags", "chapters")
            assert {len(book.chapters.all()) for book in books} >= {1}
        assert len({alias for alias, _ in sent[1:]}) == 1
    del sent[:]
    with request_scope():
        pinned = Prefetch("chapters", Chapter.objects.using(alias))
        assert len(Book.objects.using(alias).prefetch_related(pinned).get(title="old 00").chapters.all()) == 1
    assert {alias for alias, _ in sent} == {alias}


def test_what_hangs_on_a_row_from_the_primary_is_prefetched_there(sent: Sent):
    book = elsewhere(new_book)
    elsewhere(lambda: Chapter.objects.create(book=book, title=new()))
    with request_scope():
        (found,) = Book.objects.using("default").filter(pk=book.pk).prefetch_related("chapters")
        assert len(found.chapters.all()) == 1
        assert found.author == book.author
    assert sent.to_replicas() == []


def test_a_fresh_foreign_key_is_followed(scope):
    with scope():
        book = new_book()
        found = Book.objects.get(pk=book.pk)
        assert found.author == book.author
        assert found.author.books.get() == book


def test_what_hangs_on_a_deleted_row_is_looked_for_on_the_primary(scope, sent: Sent):
    """Rows that somebody else just hung on it go with it, or its deletion would fail."""
    book = elsewhere(new_book)
    elsewhere(lambda: Chapter.objects.create(book=book, title=new()))
    review = elsewhere(lambda: Review.objects.create(book=book, text=new()))
    elsewhere(lambda: Note.objects.create(about=book, text=(new())))
    tag = elsewhere(lambda: Tag.objects.create(name=new()))
    elsewhere(lambda: book.tags.add(tag))
    with scope():
        _, by_model = Author.objects.get_or_create(name=book.author.name)[0].delete()
        assert by_model == {
            "features.Author": 1,
            "features.Book": 1,
            "features.Chapter": 1,
            "features.Book_tags": 1,
            "app.Note": 1,
        }
        assert Review.objects.get(pk=review.pk).book is None
    assert sent.to_replicas() == []


def test_a_row_of_a_replica_is_deleted_on_the_primary_with_all_that_hangs_on_it(scope, sent: Sent):
    book = Book.objects.using("replica1").get(title="old 03")
    chapter = elsewhere(lambda: Chapter.objects.create(book_id=book.pk, title=new()))
    del sent[:]
    with transaction.atomic():
        pk = book.pk
        book.delete()
        assert not Chapter.objects.filter(pk=chapter.pk).exists()
        assert not Book.objects.filter(pk=pk).exists()
        transaction.set_rollback(True)
    assert sent.to_replicas() == []
    with scope():
        assert Book.objects.using("default").filter(pk=pk).exists()
