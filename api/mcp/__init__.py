"""The MCP server: a library for programs with a language model."""
