"""The pages of the project itself."""

import pytest
from django.test import override_settings
from django.urls import path

from apps.core.reporting import STARS, SecretlessExceptionReporter
from apps.core.views import start
from config.urls import urlpatterns


def fail(request):
    raise RuntimeError


@override_settings(ROOT_URLCONF=__name__)
def test_start_page_needs_no_database(client):
    answer = client.get("/start/")
    assert answer.status_code == 200
    assert "createsuperuser" in answer.text


def test_start_page_is_for_development_only(client):
    assert client.get("/").status_code == 404


def test_missing_page_is_said_in_words(client):
    answer = client.get("/nowhere/")
    assert answer.status_code == 404
    assert "There is no page at this address." in answer.text


@override_settings(ROOT_URLCONF=__name__)
def test_failing_page_is_said_in_words(client):
    client.raise_request_exception = False
    answer = client.get("/fail/")
    assert answer.status_code == 500
    assert "Something went wrong on our side." in answer.text


@pytest.mark.django_db
def test_admin_shows_the_users(admin_client):
    answer = admin_client.get("/admin/users/user/")
    assert answer.status_code == 200
    assert "admin@example.com" in answer.text


def test_error_reports_hide_every_secret(rf, settings):
    names = "SECRET_KEY", "HEALTH_TOKEN", "DB_READONLY_PASSWORD"
    for name in names:
        setattr(settings, name, f"{name.lower()}'s value")
    shown = tuple(getattr(settings, name) for name in names)
    with pytest.raises(KeyError) as caught:
        {}[shown]
    reporter = SecretlessExceptionReporter(rf.get("/"), caught.type, caught.value, caught.tb)
    for report in (reporter.get_traceback_html(), reporter.get_traceback_text()):
        assert STARS in report
        assert not [name for name in names if name.lower() in report]


urlpatterns = [*urlpatterns, path("start/", start), path("fail/", fail)]
