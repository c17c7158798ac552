"""The machine below a run: device, environment, signals, log and caches."""
