"""`make demo`: everything that runs in production, on this machine, in one terminal screen."""
