"""`python -m residuum` is the command `residuum`."""

import sys

from residuum.cli import main

sys.exit(main())
