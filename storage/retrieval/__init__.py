"""What search reads: channel indexes, keywords, owners of embeddings and hit records."""
