"""The model that is trained: its shape, its network, what a step of it costs."""
