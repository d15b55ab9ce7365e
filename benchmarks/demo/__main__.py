"""`python -m benchmarks.demo`: see `benchmarks.demo.page`."""

import sys

from benchmarks.demo.page import main

if __name__ == "__main__":
    sys.exit(main())
