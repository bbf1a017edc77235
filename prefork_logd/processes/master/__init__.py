"""The process that forks the others, and reloads, upgrades and stops them."""
