"""Plain nn.Modules on torch alone: one file a model family, `layers` for what two of them share."""
