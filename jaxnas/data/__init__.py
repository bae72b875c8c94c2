"""Images with labels, from wherever the user keeps them, checked and split once at the door."""
