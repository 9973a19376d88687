"""Data sets: drawn cells, and public images fetched and checked by hash.

Each module is imported on its own: ``from unet_edu.data import cells``.
"""
