"""`python -m eqaudit`."""

import sys

from eqaudit.cli import main

sys.exit(main())
