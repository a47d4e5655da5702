"""Cheat sheets: markdown -> what is on the page -> a page drawn by Typst. No torch in here."""
