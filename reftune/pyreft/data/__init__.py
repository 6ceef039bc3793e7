"""From texts to batches with `intervention_locations`: data sets, modules and collators."""
