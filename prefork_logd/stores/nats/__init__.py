"""Publishes records to a stream of NATS JetStream, and defines the form of its messages.

Owns ranges, ids, and the log of ranges that may be published again. Does not know the journal's files.
"""
