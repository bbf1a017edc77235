"""Records in PostgreSQL, and back out of it. Needs the extra `postgresql` (psycopg 3)."""
