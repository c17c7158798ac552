"""Searching the ranges that a recipe declares."""
