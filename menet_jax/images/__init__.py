"""Images, masks and saliency maps as files and arrays, and distortions."""
