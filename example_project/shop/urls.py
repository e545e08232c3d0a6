from django.urls import path

from shop import views

urlpatterns = [
    path("shop/", views.shop, name="shop"),
    path("shop/<slug:slug>/buy/", views.buy, name="buy"),
    path("wallet/", views.wallet, name="wallet"),
]
