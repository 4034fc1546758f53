"""One function per family of models: the keys of its config.json, turned into the fields of ``MoeModel``."""
