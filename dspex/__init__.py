"""dspex: Optuna for LLM programs."""

__version__ = "0.1.0"
