"""`python -m eqaudit`."""

import sys

if not sys.flags.safe_path:
    # The current folder, which `-m` puts first: its json.py is none of ours.
    del sys.path[0]

from eqaudit.cli import main

sys.exit(main())
