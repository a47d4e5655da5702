"""One file per format of another program."""
