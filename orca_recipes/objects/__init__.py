"""Objects of a store of objects (S3, Google, Azure, a folder, the web): addresses, requests, faults in sentences."""
