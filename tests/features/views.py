"""Views as people write them: none of them knows of replicas, but the last."""

from django import forms
from django.contrib.auth import login, update_session_auth_hash
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse

from replicant import use_replica
from tests.features.models import Author, Book


def me(request: HttpRequest) -> HttpResponse:
    """Who is logged in; nobody: empty."""
    return HttpResponse(request.user.username)


def sign_up(request: HttpRequest) -> HttpResponse:
    user = User.objects.create_user(request.POST["name"], password=request.POST["password"])
    login(request, user, "django.contrib.auth.backends.ModelBackend")
    return HttpResponse(user.pk)


def change_password(request: HttpRequest) -> HttpResponse:
    request.user.set_password(request.POST["password"])
    request.user.save()
    update_session_auth_hash(request, request.user)
    return HttpResponse()


def visits(request: HttpRequest) -> HttpResponse:
    """Counts in the session, on GET too."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(request.session["visits"])


class AuthorForm(forms.ModelForm):
    class Meta:
        model = Author
        fields = ("name",)


def add_author(request: HttpRequest) -> HttpResponse:
    form = AuthorForm(request.POST)
    if form.is_valid():
        return JsonResponse({"pk": form.save().pk})
    return JsonResponse(form.errors, status=400)


def books(request: HttpRequest) -> HttpResponse:
    page = Paginator(Book.objects.order_by("pk"), 5).page(request.GET.get("page", 1))
    return JsonResponse({"of": page.paginator.count, "titles": [book.title for book in page]})


def buy(request: HttpRequest, pk: int) -> HttpResponse:
    book = Book.objects.get(pk=pk)
    book.stock = F("stock") - 1
    book.save()
    return HttpResponse(Book.objects.get(pk=pk).stock)


async def async_book(request: HttpRequest, pk: int) -> HttpResponse:
    book = await Book.objects.select_related("author").aget(pk=pk)
    return JsonResponse({"title": book.title, "alias": book._state.db, "user": (await request.auser()).username})


async_book_on_replica = use_replica("replica2")(async_book)
