"""Words a refusal: as JSON to API clients, as plain text to all others.

Does not know why something is refused.
"""

from __future__ import annotations

import msgspec
from starlette.responses import PlainTextResponse, Response

API = "/api/"
TOO_HEAVY = 422
"""Status of a query that needs too much memory: Unprocessable Content (RFC 9110, 15.5.21). No client repeats it."""
FAILED = "the request failed because of an error of the collector, which its log describes"


def refusal(path: str, status: int, sentence: str) -> Response:
    """Return the answer to a request for `path` that is refused."""
    if path.startswith(API):
        return Response(msgspec.json.encode({"error": {"message": sentence}}), status, media_type="application/json")
    return PlainTextResponse(f"{sentence[:1].upper()}{sentence[1:]}.\n", status)
