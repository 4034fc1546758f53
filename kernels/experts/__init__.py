"""What one rank does by itself: cast, permute, products, activation."""
