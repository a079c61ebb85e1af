"""What makes the pages of the documentation that are not written by hand. Nothing here is part of the program."""
