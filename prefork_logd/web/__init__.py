"""Serves the page: requests from browsers in, answers from stores and the journal out.

Does not know processes, pipes or SQL.
"""
