"""A write on its way: sent once, looked for if its answer was lost, and described in words."""
