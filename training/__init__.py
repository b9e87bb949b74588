"""How the fallback models were trained, and how they are put into `models/`."""
