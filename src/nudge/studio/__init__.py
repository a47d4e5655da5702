"""Web pages about runs, for train, infer and look. Pages only call the library; nothing is computed here."""
