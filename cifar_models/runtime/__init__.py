"""The machine that a run uses: device, environment, signals, log and child processes."""
