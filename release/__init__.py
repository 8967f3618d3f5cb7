"""What is published: manifests for registries and clients, and `make dist`, which builds and checks all of it."""
