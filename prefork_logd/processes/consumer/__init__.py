"""The processes that collect from a stream."""
