from django.contrib import admin

from tests.features.models import Author, Book, Chapter


class Chapters(admin.TabularInline):
    model = Chapter
    extra = 0


@admin.register(Author)
class AuthorAdmin(admin.ModelAdmin):
    ordering = ("name",)
    search_fields = ("name",)


@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    autocomplete_fields = ("author",)
    inlines = (Chapters,)
    list_display = ("title", "author", "stock")
    list_editable = ("stock",)
    list_filter = ("author",)
    search_fields = ("title", "author__name")
