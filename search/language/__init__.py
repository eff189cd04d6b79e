"""The query language: text to terms and conditions and back, with errors that point at the
place."""
