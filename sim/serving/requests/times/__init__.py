"""Step times as the compiled loop looks them up."""
