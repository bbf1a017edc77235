"""Keeps groups of errors, counted from shipped records, in a SQLite file of their own.

Does not know shippers, or how groups are shown.
"""
