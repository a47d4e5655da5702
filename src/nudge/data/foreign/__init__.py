"""Data that other programs made: token files of nanoGPT and llm.c, meta.pkl, the Hugging Face Hub."""
