"""A network on a card: its numbers, its data, and the launches that work on them."""
