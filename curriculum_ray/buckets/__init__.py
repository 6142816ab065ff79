"""Results in object storage: addresses, requests that are retried, and local working copies."""
