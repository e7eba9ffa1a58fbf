"""An experiment that is killed at counted moments, and the books by which it is audited."""
