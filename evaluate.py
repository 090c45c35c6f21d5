"""python evaluate.py control | surrogate | benchmark [key=value ...]

control: compares the learned control with every baseline, on real encodes. surrogate: its predictions with real encodes
of maps and videos that it has not seen. benchmark: what coding costs any networks, on any data set. `--help` lists stages,
groups and keys.
"""

import sys

from dvcc.cli.guard import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("evaluate.py", sys.argv[1:]))
