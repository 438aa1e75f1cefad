"""A closed-loop load on loopback: each client asks again once it has its answer, for a time that is bounded."""

import http.client
import itertools
import math
import threading
import time
from collections import Counter
from typing import NamedTuple

PATIENCE = 40  # seconds for which a client waits for an answer
PAUSE = 0.02  # seconds for which a client thinks about an answer: it is the server that is tested, not the machine


class Answer(NamedTuple):
    """What a client got; `status` is 0 where it got no answer, and `text` is the reason then."""

    page: str
    number: int
    status: int
    begun: float  # as time.monotonic() has it
    ended: float
    text: str
    headers: dict[str, str]

    @property
    def seconds(self):
        return self.ended - self.begun

    def __repr__(self):
        return f"<{self.page} {self.status or self.text} after {self.seconds:.2f} s>"


class Answers(list):
    """Answers, to choose from and to count."""

    def where(self, page=None, *, status=None, begun_after=-math.inf, ended_after=-math.inf, ended_before=math.inf):
        return Answers(
            answer
            for answer in self
            if page in (None, answer.page)
            and status in (None, answer.status)
            and answer.begun >= begun_after
            and ended_after <= answer.ended <= ended_before
        )

    def __add__(self, others):
        return Answers([*self, *others])

    def statuses(self):
        return dict(sorted(Counter(answer.status for answer in self).items()))

    def numbers(self):
        return {answer.number for answer in self}

    def slowest(self, share=1.0):
        """Return the seconds within which such a share of the answers came."""
        return sorted(answer.seconds for answer in self)[math.ceil(len(self) * share) - 1]

    def __str__(self):
        pages = sorted({answer.page for answer in self})
        return "; ".join(
            f"{page} " + " ".join(f"{status}:{count}" for status, count in self.where(page).statuses().items())
            for page in pages
        )


def ask(port, page, number=0, **headers):
    """Ask for a page, on a connection of its own; "{}" in its name stands for the number."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        method = "POST" if page.startswith("write") else "GET"  # which alone may be answered twice
        connection.request(method, f"/{page.format(number)}/", headers={"Connection": "close", **headers})
        with connection.getresponse() as response:
            status, text, got = response.status, response.read().decode(), dict(response.headers)
    except (OSError, http.client.HTTPException) as error:
        status, text, got = 0, repr(error), {}
    finally:
        connection.close()
    return Answer(page, number, status, begun, time.monotonic(), text, got)


class Load:
    """
    Clients of a server inside a block; afterwards `answers` holds what they got.

    `clients` says how many ask for each page. They end by themselves after `seconds`, or after a number of requests
    each, if the block does not end before; then `join()` is what to wait by.
    """

    def __init__(self, port, clients, *, pause=PAUSE, seconds=60, requests=10_000):
        self.port, self.pause, self.requests = port, pause, requests
        self.deadline = time.monotonic() + seconds
        self.answers = Answers()
        self.numbers = itertools.count(time.time_ns())
        self.threads = [
            threading.Thread(target=self.repeat, args=[page]) for page, count in clients.items() for _ in range(count)
        ]

    def repeat(self, page):
        for _ in range(self.requests):
            if time.monotonic() > self.deadline:
                break
            self.answers.append(ask(self.port, page, next(self.numbers)))
            time.sleep(self.pause)

    def join(self):
        for thread in self.threads:
            thread.join()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.end()

    def end(self):
        self.deadline = 0
        self.join()


def burst(port, page, clients, each):
    """Return the answers to a number of requests of each client, who ask all at once."""
    with Load(port, {page: clients}, pause=0, requests=each) as load:
        load.join()
    return load.answers
