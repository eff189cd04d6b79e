"""The faces of regard, and the one place that builds and wires the concrete parts."""
