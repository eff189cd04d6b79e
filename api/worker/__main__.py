"""`python -m regard.api.worker`."""

import sys

from regard.api.worker.process import main

if __name__ == "__main__":
    sys.exit(main())
