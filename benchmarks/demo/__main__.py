"""Trains all three panels small on the CPU and writes a report: see `benchmarks.demo.page`."""

import sys

from benchmarks.demo.page import main, parse

__all__ = ["main", "parse"]

if __name__ == "__main__":
    sys.exit(main())
