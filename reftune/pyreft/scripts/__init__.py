"""Running what was written for pyreft as it is: scripts, modules and notebooks."""
