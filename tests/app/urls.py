from django.urls import path

from tests.app import views

urlpatterns = [
    path("read/", views.read),
    path("write/", views.write),
    path("replica/", views.replica),
    path("class/", views.Class.as_view()),
    path("class/decorated/", views.decorated_view),
    path("lazy/", views.lazy),
    path("stream/", views.stream),
    path("stream/<str:name>/", views.named_stream),
    path("async/read/", views.async_read),
    path("async/write/", views.async_write),
    path("async/class/", views.AsyncClass.as_view()),
    path("async/lazy/", views.async_lazy),
    path("async/stream/", views.async_stream),
    path("async/stream/plain/", views.async_plain_stream),
    path("async/class/stream/", views.AsyncStream.as_view()),
]
