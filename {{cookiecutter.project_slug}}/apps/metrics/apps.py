"""Figures for Prometheus, and traces for OpenTelemetry."""

from django.apps import AppConfig


class MetricsConfig(AppConfig):
    """Registers the check; what is measured, its middleware measures."""

    name = "apps.metrics"

    def ready(self) -> None:
        """Register the check."""
        from . import checks  # noqa: F401, PLC0415  importing it registers it
