"""Readers of file formats, each with bounds on what a hostile file can make it do."""
