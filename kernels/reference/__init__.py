"""Each kernel once in plain NumPy, written to be read: the truth the others are tested against."""
