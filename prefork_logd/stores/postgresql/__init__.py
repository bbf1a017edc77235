"""Keeps records in PostgreSQL and searches them there. Needs the extra `postgresql` (psycopg 3).

Owns tables, partitions, indexes and the SQL of a query. Does not know shippers or how answers are printed.
"""
