"""All that edge, central and billing share: messages, topics, schemas."""
