"""One run: train, resume, load, evaluate."""
