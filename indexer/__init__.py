"""Photo to records: discover, decode, analyse, commit."""
