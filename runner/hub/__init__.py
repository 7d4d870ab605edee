"""A finished run in, an adapter with its card on the Hugging Face Hub out."""
