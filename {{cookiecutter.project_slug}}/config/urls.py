"""Every URL of the project."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, path

from apps.core.views import live, ready, start

handler500 = "apps.core.views.server_error"

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    # HealthMiddleware responds to machines before these.
    path("health/live/", live),
    path("health/ready/", ready),
]

if settings.DEBUG:
    from debug_toolbar.toolbar import debug_toolbar_urls

    urlpatterns += [path("", start, name="start"), *debug_toolbar_urls()]
