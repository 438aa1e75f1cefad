"""Settings of metrics and traces, which `config.settings.base` imports."""

from apps.core.environment import config, secret

# The bearer token that reads /metrics; while it is empty, a private network may.
METRICS_TOKEN = secret("METRICS_TOKEN")

# Where traces are sent by OTLP over HTTP, such as http://localhost:4318, and by which name; nowhere if empty.
OTEL_ENDPOINT = config("OTEL_EXPORTER_OTLP_ENDPOINT")
OTEL_SERVICE_NAME = config("OTEL_SERVICE_NAME", default="django")
