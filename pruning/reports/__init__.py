"""What was asked for and what came of it, in numbers and in one sentence."""
