"""Shared by the emotion data sets: example texts, and what the labels do not mean."""

EXAMPLES = (
    "I opened the door and there they all were, even my sister from Lisbon. Nobody had told me a thing!",
    "The bus left thirty seconds early again and the driver looked right at me while I ran.",
    "You stayed up all night to help me finish it. I won't forget that.",
    "Every Sunday the kitchen smelled of cinnamon, and Grandpa hummed along to the radio.",
)
CAVEAT = "What somebody wrote is not what they feel."
