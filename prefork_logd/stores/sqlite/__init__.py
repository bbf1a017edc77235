"""Records in SQLite files, one a day: no server, and a retention that is the removal of a file."""
