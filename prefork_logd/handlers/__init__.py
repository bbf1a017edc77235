"""Sends a service's log records to the collector: logging handlers for Python 2.7 and 3.6 or newer.

    handler = prefork_logd.handlers.SocketHandler("logs.example.com", 9020)

SocketHandler takes the place of `logging.handlers.SocketHandler`. It numbers its records, keeps them until the
collector has committed them, and sends the rest again after a reconnect (docs/handler.md, docs/protocol.md). These
files need the standard library alone, and are also the package `prefork_logd_handler`. Does not know the collector's
code: nothing of ours outside this folder is imported.
"""
from __future__ import absolute_import, division

from ._pickles import make_pickle
from ._session import ClientProtocol, ProtocolError
from ._spool import Spool
from .socket_handler import SocketHandler

__all__ = ["ClientProtocol", "ProtocolError", "SocketHandler", "Spool", "make_pickle"]

for _public in (ClientProtocol, ProtocolError, SocketHandler, Spool, make_pickle):
    _public.__module__ = __name__  # the place that people import them from, also in pickles and messages
del _public
