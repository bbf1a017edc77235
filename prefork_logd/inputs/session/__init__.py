"""Speaks the collector's half of acknowledged sessions, the protocol of our handler.

Owns messages, numbers and the proof of a shared secret. Does not know sockets, clocks or where secrets come from.
"""
