"""The pictures and figures of the documentation, made by the code that they show."""
