"""How many planted anomalies the search of embeddings finds, and how many of those it lists are false."""
