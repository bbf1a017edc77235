"""Serves clients: reads their connections, sends lines to the writer, and acknowledges what is committed.

Owns connections, their deadlines and back-pressure. Does not know output files or the journal.
"""
