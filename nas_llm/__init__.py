"""Find better architectures inside a pretrained language model, without training."""
