"""`python -m benchmarks.gpu`: see `benchmarks.gpu.figures`."""

from benchmarks.gpu.figures import parse, run
from core.cli.exits import main

if __name__ == "__main__":
    main(lambda: run(parse()))
