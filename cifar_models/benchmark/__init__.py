"""Training speed and serving cost, each measured in a process of its own."""
