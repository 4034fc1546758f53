"""The machine in motion: discrete events, expert-parallel protocols, one MoE layer. Never imports torch."""
