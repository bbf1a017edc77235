"""Asks the page of another host for records, by its HTTP API.

Does not know stores, or how answers are printed.
"""
