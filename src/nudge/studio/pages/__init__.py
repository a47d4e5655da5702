"""One module for the class of each page: train.py has TrainPage. A new page also needs an entry in layout.PAGES."""
