"""Pages that say which server has answered; a copy of this module is the ROOT_URLCONF of the project with replicas."""

import os
import random
import time
from pathlib import Path

from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import models, transaction
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from apps.replicas.choice import using_primary, using_replica


class Port(models.Func):
    """The port of the server that executes the query."""

    function = "inet_server_port"
    arity = 0
    output_field = models.IntegerField()


class Counter(models.Model):
    value = models.BigIntegerField()

    class Meta:
        app_label = "users"
        db_table = "counter"
        managed = False

    def __str__(self):
        return f"{self.value}"


class NaiveRouter:
    """What one writes first: reads go to a replica, whatever has been written."""

    def db_for_read(self, *_, **__):
        return random.choice(["replica", "replica2"])  # noqa: S311  no secret


def find(key=1):
    """Return a counter's value, and the port of the server that knows it."""
    return Counter.objects.annotate(port=Port()).values_list("value", "port").get(pk=key)


def find_port():
    return find()[1]


def show(*found):
    return HttpResponse(" ".join(map(str, found)))


def who(request):
    time.sleep(0.05)
    return HttpResponse(f"{os.getpid()}")


def read(request, key=1):
    return show(*find(key))


async def read_async(request, key):
    return show(*await Counter.objects.annotate(port=Port()).values_list("value", "port").aget(pk=key))


@csrf_exempt
def write(request, key, value):
    Counter.objects.filter(pk=key).update(value=value)
    return show("written")


def write_by_get(request, key, value):
    """Say where it read before and after it wrote."""
    before = find_port()
    Counter.objects.filter(pk=key).update(value=value)
    return show(before, find_port())


@csrf_exempt
def read_by_post(request):
    with using_replica():
        asked = find_port()
    return show(find_port(), asked)


@transaction.atomic
def atomic(request):
    with using_replica():
        return show(find_port(), find_port())


def locked(request):
    with transaction.atomic():
        return show(*Counter.objects.annotate(port=Port()).select_for_update().values_list("value", "port").get(pk=1))


@using_primary()
def on_primary(request):
    with using_replica():
        asked = find_port()
    return show(find_port(), asked)


@using_primary()
async def on_primary_async(request):
    primary = await Counter.objects.annotate(port=Port()).aget(pk=1)
    with using_replica():
        asked = await Counter.objects.annotate(port=Port()).aget(pk=1)
    return show(primary.port, asked.port)


def iterate(request):
    return show(*{port for (port,) in Counter.objects.annotate(port=Port()).values_list("port").iterator(chunk_size=2)})


async def iterate_async(request):
    return show(*{counter.port async for counter in Counter.objects.annotate(port=Port()).aiterator(chunk_size=2)})


def relate(request):
    """Relate what was read from a replica to what was written to the primary."""
    permission = Permission.objects.select_related("content_type").first()
    group, made = Group.objects.get_or_create(name=f"{time.time_ns()}")
    group.permissions.add(permission)
    kind = permission.content_type
    kind.save()
    return show(permission._state.db.rstrip("2"), group._state.db, made, kind._state.db, group.permissions.count())


def greet(request):
    return show(request.user.get_username() or "nobody", find_port())


def slow(request, seconds):
    """Read for so long."""
    sleeping = models.Func(seconds, function="pg_sleep", output_field=models.TextField())
    counter = Counter.objects.annotate(port=Port(), sleeping=sleeping).get(pk=1)
    return show(counter.value, counter.port)


def counted(request, seconds):
    """Count its executions outside the database, then read for so long."""
    with Path(os.environ["COUNTS"], "counted").open("a") as file:
        file.write("+")
    return slow(request, seconds)


handler500 = "apps.core.views.server_error"

PLAIN = who, read, read_by_post, atomic, locked, on_primary, on_primary_async, iterate, iterate_async, relate, greet

urlpatterns = [
    path("admin/", admin.site.urls),
    *(path(f"{view.__name__}/", view) for view in PLAIN),
    *(path(f"{view.__name__}/<int:key>/", view) for view in (read, read_async)),
    *(path(f"{view.__name__}/<int:key>/<int:value>/", view) for view in (write, write_by_get)),
    path("slow/<int:seconds>/", slow),
    path("counted/<int:seconds>/", counted),
]
