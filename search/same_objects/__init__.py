"""The same object in different photographs, from the regions that are stored of each."""
