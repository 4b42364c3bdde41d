"""HTTP: the origin behind the CDN, and the admin port."""
