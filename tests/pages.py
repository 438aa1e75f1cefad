"""Pages for the tests' loads to ask for; a copy of this module is the ROOT_URLCONF of the project that they load."""

import asyncio
import contextlib
import os
import threading
import time
from pathlib import Path

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from apps.core.database import release_connections


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


def plain(request):
    """Make no query, and say nothing of it."""
    return HttpResponse("without a query")


def nap(request, seconds):
    """Take long, and make no query, and say nothing of it."""
    time.sleep(seconds)
    return HttpResponse("without a query")


def count_execution(name):
    with Path(os.environ["COUNTS"], name).open("a") as file:
        file.write("+")


@csrf_exempt
def counted(request, name, seconds):
    """Count its executions outside the database, then query for so long."""
    count_execution(name)
    return answer("SELECT pg_sleep(%s), %s", float(seconds), name)


def ended(request, name):
    """End its own session."""
    count_execution(name)
    return answer("SELECT pg_terminate_backend(pg_backend_pid()), %s", name)


def caught(request, name):
    """Go on after its session has ended."""
    count_execution(name)
    with contextlib.suppress(Exception):
        answer("SELECT pg_terminate_backend(pg_backend_pid())")
    return answer("SELECT 1")


def ask_for_users():
    return get_user_model().objects.count()


RUN_IN_THREAD = {
    "to_thread": asyncio.to_thread,
    "sync_to_async": lambda function: sync_to_async(function, thread_sensitive=False)(),
    "executor": lambda function: asyncio.get_running_loop().run_in_executor(None, function),
}


@transaction.non_atomic_requests
async def threads(request, way, number):
    """Have threads that are not the request's query the database, so many at once."""
    counts = await asyncio.gather(*(RUN_IN_THREAD[way](ask_for_users) for _ in range(number)))
    return HttpResponse(f"{len(counts)}")


@transaction.non_atomic_requests
def own_threads(request, number):
    """Have threads of the page's own query the database, which end."""
    found = [threading.Thread(target=ask_for_users) for _ in range(number)]
    for thread in found:
        thread.start()
    for thread in found:
        thread.join()
    return HttpResponse("ended")


@transaction.non_atomic_requests
def lasting_threads(request, number):
    """Have threads of the page's own query the database, which do something else afterwards."""
    done = threading.Barrier(number + 1)
    for _ in range(number):
        threading.Thread(target=query_and_last, args=(done,), daemon=True).start()
    done.wait(10)
    return HttpResponse("done")


def query_and_last(done):
    with release_connections():
        ask_for_users()
    done.wait(10)
    time.sleep(60)


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
        for view in (static, who, lazy, later, plain, one, ten, guarded, full, twice, misspelt, broken)
    ),
    path("busy/<int:seconds>/", busy),
    path("nap/<int:seconds>/", nap),
    path("counted/<str:name>/<str:seconds>/", counted),
    path("write/counted/<str:name>/<str:seconds>/", counted),
    path("ended/<str:name>/", ended),
    path("caught/<str:name>/", caught),
    path("threads/<str:way>/<int:number>/", threads),
    path("own_threads/<int:number>/", own_threads),
    path("lasting_threads/<int:number>/", lasting_threads),
    path("slow/<str:seconds>/", slow),
    path("write/<int:number>/", write),
    path("both/<int:first>/<int:second>/", both),
]
