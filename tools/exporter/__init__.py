"""From a program of ATen's operations to a graph of fullconv's: what tools/export.py is made of."""
