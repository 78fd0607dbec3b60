"""A page for the browser that shows what a trained network makes of photographs, and how robust it is at them."""
