"""What a launch would do, before anybody is asked: who, when, concerns, and the question."""
