"""One router for each resource. Handlers validate and call; `problems` maps errors to answers."""
