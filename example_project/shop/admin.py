from django.contrib import admin

from shop.models import EmoticonSet, Purchase, Wallet


@admin.register(EmoticonSet)
class EmoticonSetAdmin(admin.ModelAdmin):
    list_display = ("name", "price", "emoticons")
    prepopulated_fields = {"slug": ["name"]}  # noqa: RUF012 - Django's own way


@admin.register(Wallet)
class WalletAdmin(admin.ModelAdmin):
    list_display = ("user", "coins")
    list_select_related = ("user",)


@admin.register(Purchase)
class PurchaseAdmin(admin.ModelAdmin):
    list_display = ("emoticon_set", "wallet", "price", "paid")
    list_select_related = ("emoticon_set", "wallet__user")
