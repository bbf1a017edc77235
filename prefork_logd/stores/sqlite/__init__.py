"""Keeps records in SQLite files, one a day, and searches them there.

Owns the tables, indexes, retention and the SQL of a query. Does not know shippers or how answers are printed.
"""
