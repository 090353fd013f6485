"""`X-usage.db`: the usage log, what makes it count once, and its rollups. One writer thread, one SQLite library (apsw)."""
