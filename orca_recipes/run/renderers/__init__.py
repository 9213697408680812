"""Render conversations as inference would see them, with the mask of what is trained."""
