"""Comparison of finished runs: statistics, caveats, figures and an HTML report."""
