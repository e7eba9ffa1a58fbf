"""What runs inside a worker process: the session, function and class runners."""
