from django.urls import path

from api import views

urlpatterns = [
    path("banners/", views.BannersView.as_view(), name="api_banners"),
]
