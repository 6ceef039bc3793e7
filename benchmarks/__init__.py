"""What was measured, as programs: `python -m benchmarks` beside the peers, `starts.py` alone."""
