from django.urls import path

from banners import views

urlpatterns = [
    path("", views.BannersView.as_view(), name="banners"),
    path("new/", views.new_banner, name="new_banner"),
    path("<int:pk>/", views.banner, name="banner"),
    path("<int:pk>/cheer/", views.cheer, name="cheer"),
]
