"""The tools: names, descriptions, arguments, results, and the strictness they are served with."""
