"""Progress on a terminal, in a notebook, and as plain lines."""
