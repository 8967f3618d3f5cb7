"""One vendor a module; none of them knows another."""
