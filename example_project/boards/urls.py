from django.urls import path

from boards import views

urlpatterns = [
    path("boards/", views.boards, name="boards"),
    path("boards/<slug:slug>/", views.BoardView.as_view(), name="board"),
    path("boards/<slug:slug>/write/", views.WritePostView.as_view(), name="write"),
    path("posts/<int:pk>/", views.post, name="post"),
]
