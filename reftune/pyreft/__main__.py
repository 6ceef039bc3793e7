"""`python -m reftune.pyreft SCRIPT.py ARGS` is `reftune pyreft SCRIPT.py ARGS`."""

import sys

from reftune.cli import main

if __name__ == "__main__":
    sys.exit(main(["pyreft", *sys.argv[1:]]))
