"""Videos and images in and out: what reads, converts, encodes and writes them. The command line is one of its users."""
