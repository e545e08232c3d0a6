from __future__ import annotations

from typing import Any

from django.contrib.auth.mixins import LoginRequiredMixin
from django.db.models import Count, Max, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.generic import CreateView, ListView

from boards.models import Board, Post
from replicant import use_replica


@use_replica
def boards(request: HttpRequest) -> HttpResponse:
    listed = Board.objects.annotate(size=Count("posts"), latest=Max("posts__created"))
    return render(request, "boards/boards.html", {"boards": listed})


@use_replica
class BoardView(ListView):
    """A board's posts. The count and the page come from the same replica, so they agree."""

    template_name = "boards/board.html"
    context_object_name = "posts"
    paginate_by = 8

    def get_queryset(self) -> QuerySet[Post]:
        self.board = get_object_or_404(Board, slug=self.kwargs["slug"])
        return self.board.posts.select_related("author")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(board=self.board, **kwargs)


@use_replica()
def post(request: HttpRequest, pk: int) -> HttpResponse:
    shown = get_object_or_404(Post.objects.select_related("author", "board"), pk=pk)
    return render(request, "boards/post.html", {"post": shown})


class WritePostView(LoginRequiredMixin, CreateView):
    """No scope of its own: the middleware keeps all that a POST reads on the primary."""

    model = Post
    fields = ("title", "body")
    template_name = "boards/write.html"

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.board = get_object_or_404(Board, slug=kwargs["slug"])

    def form_valid(self, form: ModelForm) -> HttpResponse:
        form.instance.board = self.board
        form.instance.author = self.request.user
        return super().form_valid(form)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(board=self.board, **kwargs)
