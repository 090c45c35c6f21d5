"""`python -m dvcc.cli`."""

import sys

from dvcc.cli import main

sys.exit(main())
