"""Runners that judge the program against references; each takes a folder of reference material."""
