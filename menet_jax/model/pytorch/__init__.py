"""The authors' PyTorch weights, read and written without PyTorch."""
