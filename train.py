"""python train.py surrogate | control task=segmentation | student ... [key=value ...]

Stage 1 trains a surrogate of the codec, stage 2 a control network through it. `--help` lists stages, groups and keys.
"""

import sys

from dvcc._commands import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("train.py", sys.argv[1:], "dvcc.training"))
