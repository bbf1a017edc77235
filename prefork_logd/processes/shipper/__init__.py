"""Ships records from the journal to one store, in order, each once.

Owns batches, retries and refused records. Does not know what a store does.
"""
