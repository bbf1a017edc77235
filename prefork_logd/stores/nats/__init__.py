"""Publishes records to a stream of NATS JetStream, and knows what such a stream holds.

Owns ranges, ids, and the log of ranges that may be published again. Does not know the journal's files.
"""
