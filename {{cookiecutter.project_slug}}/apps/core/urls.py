"""The addresses of the health views; machines are answered by `middleware.HealthMiddleware` before these."""

from django.db import transaction
from django.urls import path

from . import views

urlpatterns = [
    path("live/", views.live),
    path("ready/", transaction.non_atomic_requests(views.ready)),
]
