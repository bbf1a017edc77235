"""Listens, accepts and waits for readiness: sockets and the event loop.

Owns how connections spread over workers. Does not know what is said on a connection.
"""
