"""Serves the page to browsers and API clients: a process that reads stores and the journal, as `query` does.

Does not know output files, or the writer and its pipes.
"""
