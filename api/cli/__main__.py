"""`python -m regard.api.cli`."""

import sys

from regard.api.cli import main

sys.exit(main())
