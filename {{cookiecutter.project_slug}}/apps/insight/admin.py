"""The page of the database in the admin, in place of a list of samples."""

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern, path

from . import views
from .models import Sample


@admin.register(Sample)
class DatabaseAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's own takes none
    """Nothing to add, change or delete: what `insight.view_database` lets see, and `insight.cancel_query` cancel."""

    def get_urls(self) -> list[URLPattern]:
        """Return the two pages; the first has the name that the admin's index links to."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(views.show), name="insight_sample_changelist"),
            path("cancel/<int:pid>/", wrap(views.cancel), name="insight_sample_cancel"),
        ]

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Tell whether the admin's index shows the page."""
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, _obj: Sample | None = None) -> bool:
        """Tell whether somebody may see what the database is doing."""
        return request.user.has_perm("insight.view_database")

    def has_add_permission(self, _request: HttpRequest) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Sample | None = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: Sample | None = None) -> bool:
        """Refuse."""
        return False
