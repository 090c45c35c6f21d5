"""python evaluate.py control task=segmentation [key=value ...]

Compares the learned control with every baseline, on real encodes. `--help` lists stages, groups and keys.
"""

import sys

from dvcc._commands import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("evaluate.py", sys.argv[1:], "dvcc.evaluation"))
