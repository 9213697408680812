"""Read messages of rows: keys, parts, flags, calls and tools."""
