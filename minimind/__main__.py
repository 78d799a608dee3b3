"""`python -m minimind` is the command `minimind`."""

import sys

from minimind.cli import main

sys.exit(main())
