"""The part of a Django project's settings that is about logging; Django passes LOGGING to logging.config.dictConfig."""

import logging
import os

HOST, _, PORT = os.environ.get("PREFORK_LOGD_ADDRESS", "127.0.0.1:9020").rpartition(":")


class RequestAsText(logging.Filter):
    """Replaces the request that Django attaches to its records by text.

    A request holds an open stream, which cannot be pickled: the standard library would drop the record, and these are
    the ones about errors.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        request = getattr(record, "request", None)
        if request is not None and not isinstance(request, str):
            record.request = f"{request.method} {request.path}"
        return True


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_as_text": {"()": RequestAsText}},
    "handlers": {
        "collector": {
            "class": "logging.handlers.SocketHandler",
            "host": HOST,
            "port": int(PORT),
            "filters": ["request_as_text"],
        },
    },
    # A handler that needs the request itself, such as AdminEmailHandler, belongs before the collector in a list.
    "root": {"level": "INFO", "handlers": ["collector"]},
    # Django's own configuration gives "django" handlers but lets its records go on to the root as well.
    "loggers": {"django.db.backends": {"level": "WARNING"}},
}
