"""Models of packages that follow an instance to where it was loaded from."""
