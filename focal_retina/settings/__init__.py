"""What a config says: reading YAML and LazyConfigs, and refusing what cannot work."""
