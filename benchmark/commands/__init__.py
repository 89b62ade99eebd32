"""One file a command; each has ``add_to(app)`` and imports what is heavy inside the command."""
