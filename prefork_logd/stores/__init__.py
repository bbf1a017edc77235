"""Where records are shipped to from the journal: databases, and other machines."""
