"""Generation: sampling, key-value cache, the loop that writes."""
