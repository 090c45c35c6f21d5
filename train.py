"""python train.py surrogate | control | student | flow [key=value ...]

surrogate: stage 1, a stand-in for the codec. control: stage 2, the control network through it. student: the small
segmentation and detection networks of the checkpoints. flow: their optical-flow network. `--help` lists stages, groups and keys.
"""

import sys

from dvcc.cli.guard import run_stage

if __name__ == "__main__":
    sys.exit(run_stage("train.py", sys.argv[1:]))
