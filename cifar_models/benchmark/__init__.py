"""Training speed and serving cost, each measured in a new process."""
