"""The benchmarks. `python -m bench` runs all, `python -m bench fanout` one; see README.md."""
