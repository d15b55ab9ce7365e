"""Everything that needs a GPU, measured within ten minutes: see `benchmarks.gpu.command`."""

from benchmarks.gpu.command import parse, run
from core.cli.exits import main

if __name__ == "__main__":
    main(lambda: run(parse()))
