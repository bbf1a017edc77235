"""Turns received bytes into finished lines: decodes, routes to outputs and stores, renders, rejects.

Owns the compiled core and its specification in Python. Does not know sockets, files or processes.
"""
