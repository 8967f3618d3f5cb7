"""The documents as a site, and the reference pages in them that are written from the code."""
