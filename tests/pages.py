"""Pages for the tests' loads to ask for; a copy of this module is the ROOT_URLCONF of the project that they load."""

import os
import time

from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def answer(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return HttpResponse(f"{cursor.fetchone() if cursor.description else 'done'}")


@transaction.non_atomic_requests
def static(request):
    return HttpResponse("without data")


@transaction.non_atomic_requests
def busy(request, seconds):
    time.sleep(seconds)
    return HttpResponse("awake")


@transaction.non_atomic_requests
def who(request):
    """Say which process answers, and leave the next request to another one."""
    time.sleep(0.05)
    return HttpResponse(f"{os.getpid()}")


@transaction.non_atomic_requests
def lazy(request):
    """Ask all the same, as a page does that shows who is logged in."""
    return answer("SELECT 1")


@transaction.non_atomic_requests
async def later(request):
    return HttpResponse(str(await get_user_model().objects.acount()))


def one(request):
    return answer("SELECT 1")


def ten(request):
    for _ in range(9):
        answer("SELECT 1")
    return answer("SELECT 1")


@csrf_exempt
def write(request, number):
    return answer("INSERT INTO ledger VALUES (%s)", number)


def guarded(request):
    return answer("SELECT count(*) FROM guarded")


def slow(request, seconds):
    return answer("SELECT pg_sleep(%s)", float(seconds))


def both(request, first, second):
    """Take two locks; two requests that take them crosswise are a deadlock."""
    answer("SELECT pg_advisory_xact_lock(%s)", first)
    answer("SELECT pg_sleep(0.5)")
    return answer("SELECT pg_advisory_xact_lock(%s)", second)


def full(request):
    return answer("COPY (SELECT 1) TO '/dev/full'")


def twice(request):
    answer("INSERT INTO ledger VALUES (0)")
    return answer("INSERT INTO ledger VALUES (0)")


def misspelt(request):
    return answer("SELECT nonsense")


def broken(request):
    raise ValueError("broken")


handler500 = "apps.core.views.server_error"

urlpatterns = [
    *(
        path(f"{view.__name__}/", view)
        for view in (static, who, lazy, later, one, ten, guarded, full, twice, misspelt, broken)
    ),
    path("busy/<int:seconds>/", busy),
    path("slow/<str:seconds>/", slow),
    path("write/<int:number>/", write),
    path("both/<int:first>/<int:second>/", both),
]
