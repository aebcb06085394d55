"""Archives that carry finished trials from one store to another."""
