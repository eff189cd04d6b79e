"""The SQL database: connection, schema, migrations, leases and the change log."""
