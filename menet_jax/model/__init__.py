"""The network of the paper, its losses and its saliency maps (Section III)."""
