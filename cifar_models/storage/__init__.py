"""Files of a run: atomic writes, checkpoints and the run folder."""
