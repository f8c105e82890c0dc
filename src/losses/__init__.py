"""Loss terms, feature extractors, adversarial objectives and their weighted sum, as plain nn.Modules."""
