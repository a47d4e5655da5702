"""One module per page, in it its class: TrainPage in train.py. A new page needs its name in shell.PAGES, and words."""
