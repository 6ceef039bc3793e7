"""What is measured, one file per kind: each asks the workers and returns rows."""
