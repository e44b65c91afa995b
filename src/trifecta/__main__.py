"""`python -m trifecta`, for where the folder of installed programs isn't on the path."""

import sys

from trifecta.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
