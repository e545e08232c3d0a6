"""Banners: saved through a form, then shown by their id, by the very next request."""
