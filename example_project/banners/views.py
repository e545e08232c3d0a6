from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST
from django.views.generic import ListView

from banners import cheers
from banners.forms import BannerForm
from banners.models import Banner
from replicant import use_replica


@use_replica
class BannersView(ListView):
    queryset = Banner.objects.select_related("author")
    template_name = "banners/banners.html"
    context_object_name = "banners"
    paginate_by = 10


@login_required
def new_banner(request: HttpRequest) -> HttpResponse:
    form = BannerForm(request.POST or None)
    if form.is_valid():
        form.instance.author = request.user
        return redirect(form.save())
    return render(request, "banners/new.html", {"form": form})


@use_replica
def banner(request: HttpRequest, pk: int) -> HttpResponse:
    shown = get_object_or_404(Banner.objects.select_related("author"), pk=pk)
    return render(request, "banners/banner.html", {"banner": shown})


@login_required
@require_POST
def cheer(request: HttpRequest, pk: int) -> HttpResponse:
    cheered = get_object_or_404(Banner, pk=pk)
    try:
        count = cheers.add(pk)
    except ValueError:
        # The first, or the first since the cache threw the count away.
        cheers.begin(pk)
        count = cheers.add(pk)
    messages.success(request, f"Cheers: {count}.")
    return redirect(cheered)
