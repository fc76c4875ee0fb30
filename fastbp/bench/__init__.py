"""Side by side with the peers that are installed: `fastbp bench` (see `docs/performance.md`)."""
