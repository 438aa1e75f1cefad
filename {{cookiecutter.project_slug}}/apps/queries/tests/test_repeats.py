"""Queries that one line repeats for each of many objects."""

from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import models, transaction
from django.http import HttpResponse
from django.template import Context, Template
from django.urls import path

from apps.core.querysets import PeersManager
from apps.queries.repeats import RepeatedQueries, allow_repeats, told, watch
from config.urls import urlpatterns

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

FEW, MANY = 4, 5


def name_models(permissions):
    return [permission.content_type.model for permission in permissions]


LINE = f"apps/queries/tests/test_repeats.py:{name_models.__code__.co_firstlineno + 1}"


def permissions(number=MANY):
    return Permission.objects.all()[:number]


def show(request):
    return HttpResponse(f"{name_models(permissions())}")


def show_template(request):
    template = Template(Path(__file__).with_name("kinds.html").read_text(encoding="utf-8"))
    return HttpResponse(template.render(Context({"all": permissions()})))


@transaction.non_atomic_requests
async def show_later(request):
    return HttpResponse(f"{[await Group.objects.acount() for _ in range(MANY)]}")


@allow_repeats()
def show_allowed(request):
    return show(request)


def create_one_by_one():
    for number in range(MANY):
        Group.objects.create(name=f"group {number}")


def test_a_repeated_query_fails_with_file_and_line_and_what_to_do():
    with watch(), pytest.raises(RepeatedQueries) as raised:
        name_models(permissions())
    said, advice = str(raised.value).split("\n")
    assert said.startswith(f'{LINE} makes the same query 5 times or more: SELECT "django_content_type"."id"')
    assert "select_related, prefetch_related or fetch_mode(FETCH_PEERS)" in advice


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.select_related("content_type"),
        lambda found: found.prefetch_related("content_type"),
        lambda found: found.fetch_mode(models.FETCH_PEERS),
    ],
)
def test_what_the_advice_says_helps(change, django_assert_max_num_queries):
    with watch(), django_assert_max_num_queries(2):
        assert len(name_models(change(Permission.objects.all())[:20])) == 20


def test_models_with_the_project_s_manager_repeat_nothing(django_assert_num_queries):
    manager = PeersManager()
    manager.model = Permission
    with watch(), django_assert_num_queries(2):
        assert len(name_models(manager.all()[:20])) == 20


def test_users_have_the_project_s_manager(django_user_model, django_assert_num_queries):
    assert isinstance(django_user_model.objects, PeersManager)
    for number in range(MANY):
        django_user_model.objects.create_user(f"user {number}", f"{number}@example.com")
    with watch(), django_assert_num_queries(2):
        assert len({user.email for user in django_user_model.objects.defer("email")}) == MANY


def test_few_repetitions_are_no_matter():
    with watch():
        assert len(name_models(permissions(FEW))) == FEW


def test_writing_one_by_one_is_repeating():
    with watch(), pytest.raises(RepeatedQueries, match="INSERT INTO"), transaction.atomic():
        create_one_by_one()
    with watch():
        Group.objects.bulk_create(Group(name=f"new {number}") for number in range(MANY))


def test_lines_are_counted_each_for_itself():
    with watch():
        for _ in range(FEW):
            Group.objects.count()
        for _ in range(FEW):
            Group.objects.count()


def test_nothing_is_counted_outside_and_each_block_begins_anew():
    for _ in range(2):
        name_models(permissions(9))
        with watch():
            name_models(permissions(FEW))


def test_what_is_meant_is_allowed():
    with watch(), allow_repeats():
        name_models(permissions())
    with allow_repeats(), watch():
        name_models(permissions())


@pytest.mark.parametrize("view", ["show", "template", "later"])
def test_requests_are_watched(client, view):
    with pytest.raises(RepeatedQueries, match=rf"{'show_later' if view == 'later' else r'test_repeats.py:\d+'} makes"):
        client.get(f"/{view}/")


def test_a_view_may_repeat_what_it_means_to(client):
    assert client.get("/allowed/").status_code == 200


def test_development_warns_once_for_each_line(client, lines, settings):
    settings.REPEATED_QUERIES = "warn"
    told.clear()
    for _ in range(2):
        assert client.get("/show/").status_code == 200
    (line,) = [line for line in lines() if line["level"] == "warning"]
    assert f"{LINE} makes the same query 5 times or more: SELECT" in line["event"]
    assert line["request_id"]


def test_production_counts_nothing(client, lines, settings):
    settings.REPEATED_QUERIES = ""
    assert client.get("/show/").status_code == 200
    assert [line["level"] for line in lines()] == ["info"]


def test_django_s_own_pages_are_left_alone(admin_client):
    for number in range(30):
        Group.objects.create(name=f"group {number}")
    for address in ("/admin/", "/admin/users/user/", "/admin/users/user/add/", "/admin/auth/group/"):
        assert admin_client.get(address).status_code == 200


urlpatterns = [
    *urlpatterns,
    path("show/", show),
    path("template/", show_template),
    path("later/", show_later),
    path("allowed/", show_allowed),
]
