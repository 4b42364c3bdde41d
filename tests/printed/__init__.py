"""Every command that docs/how-to and docs/runbooks print is run as it stands there, or is listed with a reason."""
