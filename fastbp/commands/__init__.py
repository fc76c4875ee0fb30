"""The commands of `fastbp`, a file each."""
