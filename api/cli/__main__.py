"""`python -m regard.api.cli`."""

import sys

from regard.api.cli.app import main

sys.exit(main())
