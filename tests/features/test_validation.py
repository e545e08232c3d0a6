"""Unique values, checked before the database would refuse them."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from django.forms import inlineformset_factory, modelformset_factory
from django.test import Client

from replicant import use_primary
from tests.features.conftest import Sent, elsewhere, new, new_book
from tests.features.models import Author, Book, Chapter
from tests.features.views import AuthorForm

# Forms and models are Django's own business: engines make no difference.
pytestmark = pytest.mark.parametrize("cluster", ["mysql"], indirect=True)


def test_what_was_written_is_known_to_be_taken(scope):
    with scope():
        book = new_book()
        with pytest.raises(ValidationError, match="already exists"):
            Author(name=book.author.name).full_clean()
        with pytest.raises(ValidationError, match="already exists"):
            Author(name=book.author.name).validate_unique()
        again = Book(author=book.author, title=book.title, stock=1)
        for check in (again.full_clean, again.validate_constraints):
            with pytest.raises(ValidationError, match="already exists"):
                check()
        assert AuthorForm({"name": book.author.name}).errors == {"name": ["Author with this Name already exists."]}
        # But not by itself.
        book.full_clean()
        assert AuthorForm({"name": book.author.name}, instance=book.author).is_valid()


def test_constraints_are_checked_on_the_primary(scope, sent: Sent):
    book = elsewhere(new_book)
    with scope(), pytest.raises(ValidationError, match="already exists"):
        Book(author_id=book.author_id, title=book.title).validate_constraints()
    assert sent.to_replicas() == []


def test_a_request_that_writes_knows_what_somebody_else_just_took(sent: Sent):
    name = elsewhere(lambda: Author.objects.create(name=new())).name
    response = Client().post("/authors/", {"name": name})
    assert response.json() == {"name": ["Author with this Name already exists."]}
    assert Client().post("/authors/", {"name": new()}).status_code == 200
    assert sent.to_replicas() == []


def test_so_does_a_script_that_says_it_is_about_to_write(scope):
    name = elsewhere(lambda: Author.objects.create(name=new())).name
    with scope(), use_primary(), pytest.raises(ValidationError, match="already exists"):
        Author(name=name).full_clean()


def test_a_foreign_key_to_a_fresh_row_is_valid(scope):
    with scope():
        author = Author.objects.create(name=new())
        Book(author=author, title=new()).full_clean()
        (author_form,) = [
            form for form in modelformset_factory(Author, fields=["name"])().forms if form.instance == author
        ]
        assert author_form.instance == author


def test_formsets_save_what_they_show(scope):
    with scope():
        book = new_book()
        chapters = inlineformset_factory(Book, Chapter, fields=["title"], extra=1)
        shown = chapters(instance=book)
        prefix = shown.prefix
        data = {f"{prefix}-TOTAL_FORMS": 1, f"{prefix}-INITIAL_FORMS": 0, f"{prefix}-0-title": "one"}
        filled = chapters(data, instance=book)
        assert filled.is_valid()
        (chapter,) = filled.save()
        data |= {f"{prefix}-INITIAL_FORMS": 1, f"{prefix}-0-id": chapter.pk, f"{prefix}-0-title": "two"}
        filled = chapters(data, instance=book)
        assert filled.is_valid()
        filled.save()
        assert book.chapters.get().title == "two"
