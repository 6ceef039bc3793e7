"""What runs within the environment of one method: it builds, steps and generates when asked to."""
