"""fastbp: back-propagation, compiled."""
