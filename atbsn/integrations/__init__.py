"""What makes the libraries of other programs open our files."""
