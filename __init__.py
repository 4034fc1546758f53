"""epicycle: a cycle-level simulator and cost model for Mixture-of-Experts expert-parallel inference."""

__version__ = "0.1.0"
