"""Read JSON and JSON lines, fast where that is proven right."""
