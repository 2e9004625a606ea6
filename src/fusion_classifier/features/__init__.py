"""Features: what encoders made of texts, kept in the store."""
