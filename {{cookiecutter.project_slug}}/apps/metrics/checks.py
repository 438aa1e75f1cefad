"""A system check for `check --deploy`: whether anybody can look in from outside."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004  Django's name


@register(Tags.security, deploy=True)
def check_somebody_may_look(**_: Any) -> list[CheckMessage]:
    """Report a production that neither a Prometheus nor a collector of traces is meant to watch."""
    if settings.METRICS_TOKEN or settings.OTEL_ENDPOINT:
        return []
    return [
        Warning(
            "METRICS_TOKEN and OTEL_EXPORTER_OTLP_ENDPOINT are both empty: nobody outside the private network can read "
            "figures or traces, or be alerted by them.",
            hint="Set METRICS_TOKEN, and give it to a Prometheus; deploy/prometheus has its configuration.",
            id="metrics.W001",
        )
    ]
