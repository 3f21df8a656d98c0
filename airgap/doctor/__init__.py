"""Checks of a home and its machine: nothing is changed, and each finding has its cure."""
