"""Tollkeeper measured beside other ways of doing the same: `python -m benchmarks`, or `make bench`. See docs/benchmarks.md."""
