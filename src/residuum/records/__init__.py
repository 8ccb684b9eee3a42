"""What a run leaves behind: events while it goes, a folder on disk, a record to read. Needs no torch."""
