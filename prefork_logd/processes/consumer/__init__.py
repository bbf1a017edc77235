"""Reads records of other collectors from a stream, and sends them to the writer.

Owns its share of the stream's partitions, and their acknowledgement. Does not know output files.
"""
