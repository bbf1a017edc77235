"""Reads what clients send: a file or folder for each protocol, and a row for each in detect.py.

Owns the contract of an input (base.py): bytes in, events out, bytes to send. Does not know sockets, clocks or files.
"""
