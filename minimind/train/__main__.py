"""`python -m minimind.train STAGE` is the command `minimind train STAGE`."""

import sys

from minimind.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
