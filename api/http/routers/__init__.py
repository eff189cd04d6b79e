"""One router a resource; handlers validate, call and hand on: errors become problems in one table."""
