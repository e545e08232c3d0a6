"""Boards and the posts on them: much read, little written."""
