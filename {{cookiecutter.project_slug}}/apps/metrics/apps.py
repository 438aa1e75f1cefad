"""Figures for Prometheus, and traces for OpenTelemetry."""

from django.apps import AppConfig


class MetricsConfig(AppConfig):
    """Begins to measure."""

    name = "apps.metrics"
