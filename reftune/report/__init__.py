"""A page about a folder of runs: read, summed up over seeds, drawn, and written as HTML."""
