"""Cards: what tells hubs and loaders what a build or an export holds."""
