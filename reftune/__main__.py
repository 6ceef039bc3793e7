"""`python -m reftune` is `reftune`."""

import sys

from reftune.cli import main

if __name__ == "__main__":
    sys.exit(main())
