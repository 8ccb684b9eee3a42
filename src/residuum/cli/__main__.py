"""`python -m residuum.cli` is the command `residuum`."""

import sys

from residuum.cli import main

sys.exit(main())
