"""python train.py STAGE [key=value ...]: the same as `dvcc train`."""

import sys

from dvcc.cli import main

if __name__ == "__main__":  # workers import this file again
    sys.exit(main(["train", *sys.argv[1:]]))
