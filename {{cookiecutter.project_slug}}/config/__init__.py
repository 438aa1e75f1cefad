"""The project's configuration."""

TEMPLATE_VERSION = "0.2.0"  # of the template that this project was made from
