"""A whole model step: one prefill or decode pass of every layer, on every GPU of one engine instance (a worker)."""
