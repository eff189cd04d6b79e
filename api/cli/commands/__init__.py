"""The commands of `regard`, one module each, named after the command."""
