"""The network, its sizes, and the file formats of its neighbours."""
