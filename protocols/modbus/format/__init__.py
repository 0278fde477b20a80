"""What a model file may say, and where models are found."""
