"""Finished stages on the disk: folders by fingerprint, claims of running builds, digests of sources."""
