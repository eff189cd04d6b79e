"""The query language: parsing and printing, with errors that point into the text."""
