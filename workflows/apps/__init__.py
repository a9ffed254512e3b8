"""Applications that run on the product as shipped."""
