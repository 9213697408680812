"""A build or an export on its way to a hub."""
