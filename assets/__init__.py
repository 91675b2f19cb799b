"""What ships beside the code: the bundled models, pictures, and the code that makes them."""
