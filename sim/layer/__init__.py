"""One MoE layer, played: what its protocol and experts do to a drawn routing, rank by rank, and what that leaves behind."""
