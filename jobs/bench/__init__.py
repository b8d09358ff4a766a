"""Measurements: `make bench`. Rates are ratios within one run; what a machine did is in docs/benchmarks."""
