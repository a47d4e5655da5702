"""What every room may use: files, formatting, hostile text, facts about this machine."""
