"""The page of the database in a browser, as production serves it, while sessions wait for each other."""

import contextlib
import os
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import fetch, free_port, manage, render, running, wait_until
from playwright.sync_api import expect, sync_playwright

pytestmark = pytest.mark.long

CHROMIUM = {"executable_path": "/usr/bin/chromium", "args": ["--no-sandbox"]}
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
CONTRAST = {"type": "rule", "values": ["color-contrast"]}  # all that another theme changes
BOTH_SIZES = pytest.mark.parametrize(
    ("viewport", "scans"),
    [(DESKTOP, {"light": RULES, "dark": CONTRAST}), (PHONE, {"light": RULES, "dark": None})],
    ids=["desktop", "phone"],
)
PASSWORD = "of-the-administrator-7"  # noqa: S105  lives as long as the test
PAGE = "/admin/insight/sample/"

# A browser that obeys it runs no script and no style but those of the site's own files.
STRICT = """
from config.settings.production import *

MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware", *MIDDLEWARE]
SECURE_CSP = {"default-src": ["'self'"]}
"""

# In steps, since all of a transaction's tables are locked to its end.
TABLES = """
DO $$ BEGIN
    FOR number IN {} .. {} LOOP
        EXECUTE format('CREATE TABLE item_%s (id integer PRIMARY KEY, owner_id integer)', number);
        IF number % 500 = 0 THEN COMMIT; END IF;
    END LOOP;
END $$
"""


@pytest.fixture(scope="module")
def deployed(server, tmp_path_factory):
    """A project that is deployed as the README says, and the variables that lead to it; TLS is a proxy's."""
    folder = tmp_path_factory.mktemp("page")
    project = render(folder)
    (folder / "strict.py").write_text(STRICT)
    environment = {
        **server.environment("page"),
        "PYTHONPATH": str(folder),
        "DJANGO_SETTINGS_MODULE": "strict",
        "ALLOWED_HOSTS": "localhost",
        "SECURE_SSL_REDIRECT": "false",
        "DB_SSLMODE": "disable",
        "PORT": str(free_port()),
    }
    manage(project, "collectstatic", "--noinput", **environment)
    manage(project, "migrate", **environment)
    account = "--username", "ada", "--email", "ada@example.com"
    manage(project, "createsuperuser", "--noinput", *account, **environment, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
    with server.connect("page") as connection:
        connection.execute(TABLES.format(1, 500))
        connection.execute(HISTORY)
    return project, environment


# A day in which connections come and go.
HISTORY = """
INSERT INTO insight_sample
    (moment, connections, transactions, blocks_hit, blocks_read, size, dead_rows, oldest_transaction, answer)
SELECT now() - n * interval '10 min', 12 + 8 * sin(n / 12.0), 2000000 - 9000 * n + 2000 * sin(n / 9.0),
    90000000 - 500000 * n, 2000000 - 9000 * n, 800000000 - 900000 * n, 20000 + 15000 * cos(n / 7.0),
    2 + 2 * sin(n / 5.0), 0.0004 + 0.0003 * sin(n / 3.0)
FROM generate_series(1, 140) AS n
"""


@pytest.fixture(scope="module")
def address(deployed):
    project, environment = deployed
    url = f"http://localhost:{environment['PORT']}"
    with running(sys.executable, "manage.py", "serve", cwd=project, **environment):
        assert fetch(f"{url}/health/ready/")[0] == 200
        yield url


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright, contextlib.closing(playwright.chromium.launch(**CHROMIUM)) as browser:
        yield browser


@pytest.fixture(scope="module")
def session(browser, address):
    """What a browser remembers of somebody who has logged in."""
    with contextlib.closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(f"{address}/admin/")
        page.get_by_label("Username").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Database", exact=True).first.click()
        expect(page.get_by_role("heading", name="Database", level=1)).to_be_visible()
        return context.storage_state()


@pytest.fixture
def look(browser, session):
    """Return what opens a page in a window of a size, in which nothing may go wrong."""
    with contextlib.ExitStack() as stack:

        @contextlib.contextmanager
        def look(url, viewport=DESKTOP):
            context = browser.new_context(viewport=viewport, storage_state=session)
            stack.enter_context(contextlib.closing(context))
            page, complaints = context.new_page(), []
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("requestfailed", lambda request: complaints.append(request.url))
            page.goto(url)
            yield page
            assert complaints == []

        yield look


@pytest.fixture(scope="module")
def chain(server, deployed):
    """Three sessions, each of which waits for the one before; return the processes of those that wait."""
    with contextlib.ExitStack() as stack:
        root, second, third = (
            stack.enter_context(server.connect("page", application_name=name))
            for name in ("shop", "migrate", "<b>report</b>")
        )
        root.execute("BEGIN; LOCK TABLE item_1 IN SHARE MODE")
        threads = [
            threading.Thread(target=wait, args=[second, "ALTER TABLE item_1 ADD note text DEFAULT 'secret-4711'"]),
            threading.Thread(target=wait, args=[third, "SELECT id FROM item_1 WHERE owner_id = 4711"]),
        ]
        for thread, each in zip(threads, (second, third), strict=True):
            thread.start()
            wait_until(lambda each=each: is_waiting(root, each))
        yield second.info.backend_pid, third.info.backend_pid
        root.execute("ROLLBACK")
        for thread in threads:
            thread.join()


def wait(session, query):
    with contextlib.suppress(psycopg.errors.QueryCanceled):
        session.execute(query)


def is_waiting(observer, session):
    query = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
    return observer.execute(query, [session.info.backend_pid]).fetchone() == (1,)


def examine(page, name, scans):
    """Find fault with a page: by axe, and where it is wider than the screen."""
    for scheme, rules in scans.items():
        page.emulate_media(color_scheme=scheme)
        page.evaluate("Promise.all(document.getAnimations().map(each => each.finished))")  # colours change slowly
        keep_picture(page, f"{name}-{scheme}")
        if rules:
            found = Axe().run(page, options={"runOnly": rules, "resultTypes": ["violations"]})
            assert not found.violations_count, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def keep_picture(page, name):
    """Keep a picture where the variable SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder, f"{name}.png"), full_page=True)


@BOTH_SIZES
def test_pages_are_for_everybody(address, look, chain, viewport, scans):
    with look(f"{address}{PAGE}", viewport) as page:
        assert page.locator("main b").count() == 0  # which the name of an application holds
        examine(page, f"page-{viewport['width']}", scans)
        page.goto(f"{address}{PAGE}cancel/{chain[0]}/")
        assert "secret" not in page.content()
        examine(page, f"cancel-{viewport['width']}", scans)


def test_findings_lead_to_their_sections(address, look, chain):
    with look(f"{address}{PAGE}") as page:
        wait_until(lambda: page.reload() and page.locator(".findings a[href='#blocking']").count())
        page.locator(".findings a[href='#blocking']").focus()
        page.keyboard.press("Enter")
        assert page.url.endswith("#blocking")
        expect(page.get_by_role("heading", name="Who waits for whom")).to_be_in_viewport()


def test_waiting_query_is_cancelled_by_keyboard(address, look, chain):
    """The one that waits for it goes on."""
    waiting, behind = chain
    with look(f"{address}{PAGE}") as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # to the page's content
        press_until(page, "Tab", lambda: focused(page) == f"Cancel the query of process {waiting}")
        page.keyboard.press("Enter")
        expect(page.get_by_text("ALTER TABLE item_1 ADD note text DEFAULT ?")).to_be_visible()
        press_until(page, "Tab", lambda: focused(page) == "Cancel the query")
        page.keyboard.press("Enter")
        expect(page.get_by_text(f"PostgreSQL was asked to cancel the query of process {waiting}.")).to_be_visible()
        for pid in (waiting, behind):
            links = page.get_by_role("link", name=f"Cancel the query of process {pid}")
            wait_until(lambda links=links: page.reload() and not links.count())


def press_until(page, key, condition):
    for _ in range(200):
        page.keyboard.press(key)
        if condition():
            return
    raise AssertionError(focused(page))


def focused(page):
    """Return the name of what has the focus, which must be seen."""
    return page.evaluate("""() => {
        const found = document.activeElement, style = getComputedStyle(found);
        if (found.closest('main') && found.matches('a, button, summary, .scrolling') && style.outlineStyle === 'none')
            return 'no visible focus';
        return found.getAttribute('aria-label') || found.textContent.trim();
    }""")


@pytest.mark.parametrize(("tables", "limit"), [(500, None), (10_000, 1.0)])
def test_page_is_soon_there(address, look, server, tables, limit):
    """Seconds from the request to all of the page, in the browser; the best of some, since others use the machine."""
    with server.connect("page") as connection:
        connection.execute(TABLES.format(501, tables))
    took, answered = [], []
    with look(f"{address}{PAGE}") as page:
        for _ in range(4):
            page.reload()
            timing = page.evaluate("performance.getEntriesByType('navigation')[0].toJSON()")
            took.append(timing["loadEventEnd"] / 1000)
            answered.append((timing["responseEnd"] - timing["requestStart"]) / 1000)
    print(f"page: {tables} tables: answered in {min(answered):.3f} s, shown in {min(took):.3f} s")
    assert limit is None or min(took) < limit
