"""The admin from the first page to the last, while replicas stand still."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from tests.browser import forget
from tests.features.conftest import PASSWORD, Sent, elsewhere, new, new_book
from tests.features.models import Author, Book, Chapter

BOOKS = "/admin/features/book/"


def logged_in() -> Client:
    client = Client()
    response = client.post("/admin/login/?next=/admin/", {"username": "admin", "password": PASSWORD}, follow=True)
    assert response.redirect_chain == [("/admin/", 302)]
    assert "Log out" in response.content.decode()
    return client


@pytest.fixture
def admin() -> Client:
    return elsewhere(logged_in)


def form(**values: Any) -> dict[str, Any]:
    """What the page of a book sends: the book, and the chapters it shows."""
    chapters = values.pop("chapters", [])
    data = {
        "stock": 1,
        **values,
        "chapters-TOTAL_FORMS": len(chapters),
        "chapters-INITIAL_FORMS": sum("id" in chapter for chapter in chapters),
    }
    for number, chapter in enumerate(chapters):
        data |= {f"chapters-{number}-{name}": value for name, value in chapter.items()}
    return data


def page(client: Client, path: str, **data: Any) -> str:
    response = client.get(path, data)
    assert response.status_code == 200
    return response.content.decode()


def post(client: Client, path: str, data: dict[str, Any]) -> str:
    """The page that follows, as the browser asks for it."""
    response = client.post(path, data, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def rows(text: str) -> list[str]:
    """The links of the list's rows."""
    return re.findall(r'<th class="field-title"><a href="[^"]+">([^<]+)</a>', text)


def test_a_book_and_its_chapters_are_added_changed_and_deleted(admin: Client, sent: Sent):
    name, title = new(), new()
    assert f"“{name}”" in re.sub(r"</?a[^>]*>", "", post(admin, "/admin/features/author/add/", {"name": name}))
    author = Author.objects.using("default").get(name=name)
    found = page(admin, "/admin/autocomplete/", app_label="features", model_name="book", field_name="author", term=name)
    assert name in found

    # Add, and go on editing: the page that follows shows the book with its chapters.
    data = form(author=author.pk, title=title, chapters=[{"title": "one"}, {"title": "two"}], _continue="x")
    shown = post(admin, f"{BOOKS}add/", data)
    assert 'value="one"' in shown
    assert 'value="two"' in shown
    book = Book.objects.using("default").get(title=title)

    # Change one chapter, delete the other.
    one, two = book.chapters.using("default").order_by("title")
    chapters = [
        {"id": one.pk, "book": book.pk, "title": "first"},
        {"id": two.pk, "book": book.pk, "title": "two", "DELETE": "on"},
    ]
    data = form(author=author.pk, title=title, stock=3, chapters=chapters, _continue="x")
    shown = post(admin, f"{BOOKS}{book.pk}/change/", data)
    assert 'value="first"' in shown
    assert 'value="two"' not in shown
    assert 'value="3"' in shown

    # List, search, filter, history: they have what this person did.
    assert rows(page(admin, BOOKS, q=title)) == [title]
    assert rows(page(admin, BOOKS, author__id__exact=author.pk)) == [title]
    assert rows(page(admin, BOOKS, o="-1"))[0] >= title
    history = page(admin, f"{BOOKS}{book.pk}/history/")
    assert "Added" in history
    assert "Changed" in history

    # Delete.
    assert "first" in page(admin, f"{BOOKS}{book.pk}/delete/")
    assert rows(post(admin, f"{BOOKS}{book.pk}/delete/", {"post": "yes"})).count(title) == 0
    assert admin.get(f"{BOOKS}{book.pk}/change/").status_code == 302
    assert not Chapter.objects.using("default").filter(book_id=book.pk).exists()
    assert LogEntry.objects.using("default").filter(object_id=str(book.pk)).count() == 3
    assert sent.to_replicas() == []


ON_MYSQL = pytest.mark.parametrize("cluster", ["mysql"], indirect=True)


@ON_MYSQL
def test_several_are_deleted_by_the_action_of_the_list(admin: Client):
    books = [elsewhere(new_book) for _ in range(3)]
    data = {"action": "delete_selected", "_selected_action": [book.pk for book in books]}
    assert all(book.title in post(admin, BOOKS, data) for book in books)
    after = post(admin, BOOKS, {**data, "post": "yes"})
    assert "Successfully deleted 3 books." in after
    assert not {book.title for book in books} & set(rows(after))


@ON_MYSQL
def test_the_list_is_edited_in_place(admin: Client):
    book = elsewhere(lambda: new_book())
    data = {
        "form-TOTAL_FORMS": 1,
        "form-INITIAL_FORMS": 1,
        "form-0-id": book.pk,
        "form-0-stock": 41,
        "_save": "Save",
    }
    after = post(admin, f"{BOOKS}?q={book.title}", data)
    assert "1 book was changed successfully." in after
    assert 'value="41"' in after


@ON_MYSQL
def test_what_somebody_else_just_took_is_refused_with_a_word_instead_of_an_error(admin: Client):
    author = elsewhere(lambda: Author.objects.create(name=new()))
    assert "Author with this Name already exists." in post(admin, "/admin/features/author/add/", {"name": author.name})
    book = elsewhere(new_book)
    data = form(author=book.author_id, title=book.title)
    assert "Constraint “one_title_per_author” is violated" in post(admin, f"{BOOKS}add/", data) or (
        "Book with this Author and Title already exists." in post(admin, f"{BOOKS}add/", data)
    )


@ON_MYSQL
def test_what_somebody_else_just_made_is_changed_by_who_was_given_its_number(admin: Client):
    """A handler that reads, changes and saves starts from the primary's row."""
    book = elsewhere(lambda: new_book(stock=9))
    data = form(author=book.author_id, title=(title := new()), stock=8, _continue="x")
    assert title in post(admin, f"{BOOKS}{book.pk}/change/", data)


@ON_MYSQL
def test_a_user_is_made_is_given_rights_and_a_password_and_uses_them(admin: Client):
    name = new().replace(" ", "-")
    data = {"username": name, "password1": "Some-words-12", "password2": "Some-words-12", "usable_password": "true"}
    assert "You may edit it again below." in post(admin, "/admin/auth/user/add/", data)
    user = User.objects.using("default").get(username=name)
    rights = Permission.objects.using("default").filter(codename="view_book")
    data = {
        "username": name,
        "is_active": "on",
        "is_staff": "on",
        "user_permissions": [right.pk for right in rights],
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00",
        "_continue": "x",
    }
    post(admin, f"/admin/auth/user/{user.pk}/change/", data)
    client = Client()

    def use() -> None:
        post(client, "/admin/login/?next=/admin/", {"username": name, "password": "Some-words-12"})
        shown = page(client, "/admin/")
        assert "Books" in shown
        assert "Authors" not in shown
        assert client.get(f"{BOOKS}add/").status_code == 403

    elsewhere(use)
    data = {"password1": "Other-words-12", "password2": "Other-words-12", "usable_password": "true"}
    assert "Password changed successfully." in post(admin, f"/admin/auth/user/{user.pk}/password/", data)


@ON_MYSQL
def test_who_changes_their_own_password_stays_logged_in():
    client = Client()

    def change() -> None:
        post(client, "/admin/login/?next=/admin/", {"username": "reader2", "password": PASSWORD})
        data = {"old_password": PASSWORD, "new_password1": "Some-words-12", "new_password2": "Some-words-12"}
        assert "Your password was changed." in post(client, "/admin/password_change/", data)
        assert "reader2" in page(client, "/admin/")

    elsewhere(lambda: User.objects.create_superuser("reader2", password=PASSWORD))
    elsewhere(change)


@ON_MYSQL
def test_who_writes_nothing_reads_the_admin_from_replicas(sent: Sent):
    client = elsewhere(logged_in)
    # As if the token of the login had run out: by then replicas have the login.
    forget(client)
    del sent[:]
    shown = page(client, BOOKS)
    assert "old 00" in shown
    # The session alone is exempt.
    assert {sql.split("`")[1] for alias, sql in sent if alias == "default" and "`" in sql} == {"django_session"}
    assert len({alias for alias, _ in sent if alias != "default"}) == 1
