"""Keeps shipped records in databases and streams: a folder for each type of store.

Owns the contract of a store (base.py), dead letters and imports. Does not know shippers or processes.
"""
