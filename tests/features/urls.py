from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import path

from tests.features import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/login/", auth.LoginView.as_view(template_name="admin/login.html"), name="login"),
    path("accounts/logout/", auth.LogoutView.as_view(), name="logout"),
    path("accounts/reset/", auth.PasswordResetView.as_view(), name="password_reset"),
    path("accounts/reset/sent/", auth.PasswordResetDoneView.as_view(), name="password_reset_done"),
    path("accounts/reset/done/", auth.PasswordResetCompleteView.as_view(), name="password_reset_complete"),
    path("accounts/reset/<uidb64>/<token>/", auth.PasswordResetConfirmView.as_view(), name="password_reset_confirm"),
    path("me/", views.me),
    path("me/password/", views.change_password),
    path("sign-up/", views.sign_up),
    path("visits/", views.visits),
    path("authors/", views.add_author),
    path("books/", views.books),
    path("books/<int:pk>/buy/", views.buy),
    path("async/<int:pk>/", views.async_book),
    path("async/<int:pk>/replica/", views.async_book_on_replica),
]
