"""Ten thousand broken inputs through the real command: `python -m tests.fuzz --help`."""

import sys
from pathlib import Path

# The helpers of the tests are imported by plain names, as the tests themselves do.
sys.path.insert(0, str(Path(__file__).parents[1]))
