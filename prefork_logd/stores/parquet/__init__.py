"""Keeps records in Parquet files, written and searched by DuckDB.

Owns the form of this store. Does not know shippers or queries from the command line.
"""
