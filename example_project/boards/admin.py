from django.contrib import admin

from boards.models import Board, Post


@admin.register(Board)
class BoardAdmin(admin.ModelAdmin):
    list_display = ("name", "description")
    prepopulated_fields = {"slug": ["name"]}  # noqa: RUF012 - Django's own way


@admin.register(Post)
class PostAdmin(admin.ModelAdmin):
    list_display = ("title", "board", "author", "created")
    list_filter = ("board",)
    list_select_related = ("board", "author")
    search_fields = ("title", "body")
