from django.urls import path

from shop import views

urlpatterns = [
    path("shop/", views.shop, name="shop"),
    path("shop/<slug:slug>/buy/", views.buy, name="buy"),
    path("wallet/", views.wallet, name="wallet"),
    path("wallet/give/<slug:username>/", views.give_coin, name="give_coin"),
    path("posts/<int:pk>/tip/", views.tip_author, name="tip_author"),
]
