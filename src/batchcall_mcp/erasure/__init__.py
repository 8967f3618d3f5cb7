"""Erasing what this installation keeps of people: of one who is to be forgotten, and of everybody after some time."""
