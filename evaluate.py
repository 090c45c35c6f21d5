"""python evaluate.py STAGE [key=value ...]: the same as `dvcc evaluate`."""

import sys

from dvcc.cli import main

if __name__ == "__main__":  # workers import this file again
    sys.exit(main(["evaluate", *sys.argv[1:]]))
