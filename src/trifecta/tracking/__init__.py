"""What is seen of a run while it goes and afterwards: console, journal, plots."""
