from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from fansite import views

urlpatterns = [
    path("", views.front, name="front"),
    path("statistics/", views.statistics, name="statistics"),
    path("replicas/<slug:alias>/delay/", views.set_delay, name="set_delay"),
    path("", include("boards.urls")),
    path("banners/", include("banners.urls")),
    path("", include("shop.urls")),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]
if settings.HAS_API:
    urlpatterns += [
        path("api/", include("api.urls")),
        path("oauth/", include("oauth2_provider.urls")),
    ]
