"""What a network looks at: filters, attention maps and position embeddings."""
