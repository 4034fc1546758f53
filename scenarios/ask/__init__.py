"""Questions: scenario files read and changed key by key, refused in one line, resolved to what the simulator is asked."""
