"""Sockets and readiness: the event loop, listening, one client's connection."""
