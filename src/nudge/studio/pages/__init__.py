"""One module per page: `build(visit)` builds it. A new page is a module, its name in shell.PAGES, and its words."""
