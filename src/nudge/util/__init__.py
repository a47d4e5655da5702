"""Helpers for every other package: files, formatting, hostile text, facts about this machine."""
