"""Declares every setting with its default, reads the configuration file and checks it.

Owns the TOML tables, their checks, their printing, and the difference that a reload may apply. Does not know
processes, sockets or open files.
"""
