"""Translates a program of ATen operations into a graph of fullconv, for tools/export.py."""
