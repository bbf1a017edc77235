"""Who runs: the master, its workers and its writer, and how they talk."""
