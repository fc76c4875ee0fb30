"""The airspeed velocity suite: what fastbp costs, commit by commit (see CONTRIBUTING.md)."""
