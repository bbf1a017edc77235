"""Evaluates rules about records, and tells people: each incident once.

Does not know processes, requests or how rules are shown.
"""
