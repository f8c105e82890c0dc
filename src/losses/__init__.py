"""Plain nn.Modules on torch alone: loss terms, feature extractors, adversarial objectives and their weighted sum."""
