"""Every setting: its declaration, its file, and the problems of a value."""
