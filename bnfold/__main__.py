"""The command `bnfold`, and `python -m bnfold`."""

import gc

from bnfold.cli import main


def run() -> None:
    """Run the command line as a process of its own.

    Such a process is short and makes next to no cycles, so looking for them (an eighth of the time that folding
    ResNet-152 takes, `benchmarks/run.py`) would find nothing.
    """
    gc.disable()
    try:
        main()
    finally:
        gc.freeze()


if __name__ == "__main__":
    run()
