"""Every built-in kind: one folder a hook, one file a kind."""
