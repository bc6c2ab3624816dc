"""`python -m mailtlspolicy` is the command line."""

import sys

from mailtlspolicy.cli import main

sys.exit(main())
