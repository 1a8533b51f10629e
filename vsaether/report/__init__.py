"""What is shown to a person: engines in words, results side by side."""
