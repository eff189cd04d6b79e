"""The command line: `regard`. Its options, outputs and exit codes are a contract; see
docs/cli.md."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        # Imports take long enough to be interrupted, too.
        from regard.api.cli import app

        return app.main(arguments)
    except KeyboardInterrupt:
        print("regard: interrupted", file=sys.stderr)
        return 130
