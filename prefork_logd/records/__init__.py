"""Defines a record: its fields, its line, and how lines are read back, also those of other programs.

Owns the limits and the text of each field. Does not know pickles, files, sockets or clocks.
"""
