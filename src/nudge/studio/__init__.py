"""A web page on a run: faces of train, infer and look. Pages only ask the library; nothing is computed here."""
