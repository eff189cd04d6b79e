"""The command line: `regard`. Its options, outputs and exit codes are a contract; see
docs/cli.md."""

from regard.api.cli.app import main

__all__ = ["main"]
