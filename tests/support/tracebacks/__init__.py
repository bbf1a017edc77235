"""Raises errors of many kinds under any Python, for the fingerprints of groups: `record.py` prints their tracebacks.

The folder `shop` is an application, `vendored` an installed package, and they run under Python 2.7, too.
"""
