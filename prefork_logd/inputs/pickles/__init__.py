"""Reads pickles as data: nothing in them is imported, called or executed.

Owns the limits of one record. Does not know frames, records or the fields of a record.
"""
