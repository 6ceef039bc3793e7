"""The server's state in SQLite or PostgreSQL: keys, files, jobs with their events, adapters."""
