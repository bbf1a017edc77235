"""Declares the settings of each type of store, and the one table of types (kinds.py).

Does not know the code of a store: a row names it, and it is imported when it is called.
"""
