"""Tools for tests, of Milepost and of what is built on it: faults, power loss, conformance."""
