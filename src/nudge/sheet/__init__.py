"""Cheat sheets: Markdown -> the parts of the page -> a page drawn by Typst. No torch in here."""
