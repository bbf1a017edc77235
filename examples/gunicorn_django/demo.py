"""What gunicorn and Django do with the two files beside this one, without either of them."""

import logging.config
import os
import sys

import gunicorn_conf
import settings


class Request:
    """As much of a Django request as matters here: it cannot be pickled."""

    method, path = "GET", "/orders/1042"

    def __init__(self) -> None:
        self.stream = sys.stdin


def serve(number: int) -> None:
    """Be one worker: handle a few requests."""
    gunicorn_conf.post_fork(None, None)
    for count in range(20):
        logging.getLogger("shop.views").info("request served", extra={"worker": number, "count": count})
    logging.getLogger("django.request").error(
        "Internal Server Error: %s", Request.path, extra={"status_code": 500, "request": Request()}
    )
    logging.getLogger("gunicorn.access").info('127.0.0.1 "GET /orders/1042 HTTP/1.1" 500')


def main() -> None:
    logging.config.dictConfig(settings.LOGGING)
    logging.config.dictConfig(gunicorn_conf.logconfig_dict)
    # Logged by the master: from here on there is a connection to inherit.
    logging.getLogger("gunicorn.error").info("Booting %d workers", gunicorn_conf.workers)
    pids = []
    for number in range(gunicorn_conf.workers):
        pid = os.fork()
        if not pid:
            serve(number)
            logging.shutdown()
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    logging.getLogger("gunicorn.error").info("Shutting down")


if __name__ == "__main__":
    main()
