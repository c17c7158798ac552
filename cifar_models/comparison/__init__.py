"""Comparison of finished runs: statistics, caveats, figures and one HTML page."""
