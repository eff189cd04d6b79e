"""The words every other room speaks: records, errors, settings, Protocols, id sets, decoding."""
