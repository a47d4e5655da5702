"""Data from other programs: token files of nanoGPT and llm.c, meta.pkl, the Hugging Face Hub."""
