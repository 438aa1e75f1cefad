"""Error pages and error mails without secrets."""

from html import escape

from django.conf import settings
from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter

from apps.core.environment import KNOWN_PASSWORDS

STARS = "********************"


class SecretlessExceptionReporter(ExceptionReporter):
    """Django's reporter, whose local variables of a failed connect would show the database's password."""

    def get_traceback_html(self) -> SafeString:
        """Return the page that DEBUG shows, or the HTML of a mail."""
        return hide_secrets(super().get_traceback_html())

    def get_traceback_text(self) -> SafeString:
        """Return the text of a mail."""
        return hide_secrets(super().get_traceback_text())


def hide_secrets(text: SafeString) -> SafeString:
    """Return the text with stars for each secret of the settings, however it was quoted."""
    named = {getattr(settings, name) for name in dir(settings) if name.endswith(("_KEY", "_PASSWORD", "_TOKEN"))}
    named |= {database.get("PASSWORD") for database in settings.DATABASES.values()}
    named |= {mailer.get("OPTIONS", {}).get("password") for mailer in settings.MAILERS.values()}
    for secret in filter(None, named - KNOWN_PASSWORDS):
        for shown in (secret, repr(secret)[1:-1]):
            text = SafeString(text.replace(escape(shown), STARS).replace(shown, STARS))
    return text
