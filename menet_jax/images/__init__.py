"""Images, masks and saliency maps as files and arrays, and what distorts them."""
