"""Raw text -> documents -> tokens -> batches. No torch in here."""
