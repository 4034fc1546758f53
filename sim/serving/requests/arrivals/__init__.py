"""Where requests come from: laws, conversations, traces."""
