"""The progress of preparing text, in words."""

PREPARING = {"reading": "reading the text", "vocabulary": "learning a vocabulary", "tokens": "making tokens"}
